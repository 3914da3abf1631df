"""A row a point and phase of the cost curves.

A *point* is one model at one length, batch size and phase ("train" or "inference"). Costs are per step of
the batch; curves are compared only within a task, budget, machine, dtype, thread count and batch size (GROUP).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra.machine.watch import disturbed
from lra.marks.runs import REFERENCE, machine_of
from lra.record.record import PHASES, Record
from lra.record.sheet import Sheet
from lra.settings import identity

GROUP = ["task", "budget", "machine", "dtype", "threads", "batch_size"]
CONDITIONS = ("device", "threads", "dtype")  # overrides that GROUP holds already

COLUMNS = [
    *("model", "task", "budget", "machine", "dtype", "threads", "length", "batch_size", "mode", "phase"),
    *("status", "reason", "seconds_median", "seconds_min", "seconds_iqr", "cpu_seconds_median"),
    *("examples_per_second", "steps_per_second", "step_peak_bytes", "flops", "gemm_share", "copy_share"),
    *("disturbed", "parameters", "seconds", "paces", "config_hash", "sweep", "run_id", "started_utc", "commit", "path"),
]


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a point and phase, of all `rows` of a results folder; null where it was not measured.

    budget: with the overrides, if any, that all models of the sweep share.
    mode: "fixed" batch or the "largest" that fits. step_peak_bytes: of a training step only.
    gemm_share: FLOPs per second over the machine's fastest matrix product in the point's dtype.
    copy_share: twice the step peak per second over the fastest copy; what is live at the peak has
    been written and will be read at least once, so the traffic is at least that.
    seconds: the time of each timed step. sweep: which call of the sweep measured it.
    """
    return at_one_pace(pd.DataFrame(rows, columns=COLUMNS))


def rows(sheet: Sheet) -> list[dict[str, Any]]:
    """A row for each phase of a record, if it is of a cost point."""
    return [_row(sheet.path, sheet.record, phase) for phase in PHASES] if sheet.record.kind == "cost" else []


def at_one_pace(points: pd.DataFrame) -> pd.DataFrame:
    """The points with `seconds`, `seconds_median` and the rates as they would be had the machine kept
    its pace: each step's time is multiplied by its pace, taken right after it, over the median of all
    paces of the same machine and thread count. Points without paces (CUDA, old records) stay as they
    are.
    """
    out = points.copy()
    for _, part in points.groupby(["machine", "threads"], dropna=False):
        known = part[part.paces.map(len) > 0]
        if known.empty:
            continue
        usual = float(np.median(np.concatenate(known.paces.to_list())))
        for i, seconds, paces in zip(known.index, known.seconds, known.paces, strict=True):
            even = np.multiply(seconds, paces) / usual
            median = float(np.median(even))
            out.at[i, "seconds"] = even.tolist()
            out.at[i, "examples_per_second"] *= out.at[i, "seconds_median"] / median
            out.at[i, "seconds_median"], out.at[i, "steps_per_second"] = median, 1 / median
    return out


def _row(path: Path, r: Record, phase: str) -> dict[str, Any]:
    cost = r.cost
    times, ceilings = cost.get(phase) or {}, cost.get("ceilings") or {}
    median, flops = times.get("seconds_median"), cost.get(f"{phase}_flops")
    peak = cost.get("step_peak_bytes") if phase == "train" else None
    gemm, copy = ceilings.get(f"gemm_{r.dtype}_flops_per_second"), ceilings.get("copy_bytes_per_second")
    # Overrides of the model make another model of it; others are conditions that all of a sweep share.
    words = [w for w in identity.departures(r.variant) if w.split("=")[0] not in CONDITIONS]
    own = [w for w in words if w.lstrip("+~").startswith("model.")]
    return {
        "model": " ".join([r.model, *own]),
        "task": r.task,
        "budget": " ".join([r.budget, *(w for w in words if w not in own)]),
        "machine": machine_of(r),
        "dtype": r.dtype,
        "threads": r.machine.get("threads"),
        "length": r.length,
        "batch_size": r.batch_size,
        "mode": cost.get("mode"),
        "phase": phase,
        "status": r.status,
        "reason": r.reason,
        **{k: times.get(k) for k in ("seconds_median", "seconds_min", "seconds_iqr", "cpu_seconds_median")},
        "examples_per_second": times.get("examples_per_second"),
        "steps_per_second": 1 / median if median else None,
        "step_peak_bytes": peak,
        "flops": flops,
        "gemm_share": flops / median / gemm if flops and median and gemm else None,
        "copy_share": 2 * peak / median / copy if peak and median and copy else None,
        "disturbed": _disturbed(cost),
        "parameters": r.parameters,
        "seconds": times.get("seconds") or ([median] if median else []),
        "paces": times.get("paces") or [],
        "config_hash": r.config_hash,
        "sweep": cost.get("sweep"),
        "run_id": r.run_id,
        "started_utc": r.started_utc,
        "commit": r.commit,
        "path": path.as_posix(),
    }


def _disturbed(cost: Mapping[str, Any]) -> bool:
    """As the conditions tell; as was written down where they are not known, in records of before."""
    timings = [cost.get(phase) or {} for phase in PHASES]
    enough = all(t.get("seconds_median") and ("seconds_iqr" in t or len(t.get("paces") or ()) > 1) for t in timings)
    known = {"cores", "other_cores"} <= set(cost.get("conditions") or {})
    return disturbed(cost["conditions"], *timings) if known and enough else bool(cost.get("disturbed"))


def newest(points: pd.DataFrame, mode: str = "fixed") -> pd.DataFrame:
    """The points that count, one row each: the newest, or the middle of its repeats (the same
    configuration and commit measured again). Adds `repeats` and `log_medians`, the log of each
    repeat's median, and joins their `seconds`."""
    ok = points[(points["mode"] == mode) & (points.status == "ok")].sort_values("run_id")
    key = [*GROUP, "model", "length", "phase"]
    every, rows = ok.to_dict("records"), []  # a frame for each of hundreds of points would take seconds
    for where in ok.groupby(key, sort=True, dropna=False).indices.values():
        part = [every[i] for i in where]
        last = part[-1]
        same = [p for p in part if p["config_hash"] == last["config_hash"]]
        same = [p for p in same if pd.isna(p["commit"]) or p["commit"] == last["commit"]]
        middle = sorted(same, key=lambda p: p["seconds_median"])[(len(same) - 1) // 2]
        logs = np.log([p["seconds_median"] for p in same])
        joined = [s for p in same for s in p["seconds"]]
        rows.append(middle | {"repeats": len(same), "log_medians": logs, "seconds": joined})
    return pd.DataFrame(rows, columns=[*points.columns, "repeats", "log_medians"])


def widest(points: pd.DataFrame) -> pd.DataFrame | None:
    """The group of points or curves with most models; None if none has the reference to compare with."""
    groups = [part for _, part in points.groupby(GROUP, sort=True, dropna=False) if REFERENCE in set(part.model)]
    return max(groups, key=lambda part: part.model.nunique(), default=None)
