"""Cost curves from the records of `python -m lra sweep=cost`: exponents, crossings, ratios.

    python -m lra.cost [results_dir=results] [--repeats]

Reads records only: neither torch nor the data are needed. A *point* is one model at one length,
batch size and phase ("train" or "inference"). Costs are per step of the batch; curves are compared
only within a task, budget, machine, dtype, thread count and batch size (GROUP).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from lra import record
from lra.conditions import disturbed
from lra.errors import UserError
from lra.leaderboard import REFERENCE, options
from lra.record import PHASES

TABLE_2 = (1024, 2048, 3072, 4096)  # the lengths of Tay et al. 2021, Table 2
GROUP = ["task", "budget", "machine", "dtype", "threads", "batch_size"]
CONDITIONS = ("device", "threads", "dtype")  # overrides that GROUP holds already
FIT_FROM = 1024  # below, a step's time is mostly what does not grow with length
RESAMPLES = 2000

COLUMNS = [
    *("model", "task", "budget", "machine", "dtype", "threads", "length", "batch_size", "mode", "phase"),
    *("status", "reason", "seconds_median", "seconds_min", "seconds_iqr", "cpu_seconds_median"),
    *("examples_per_second", "steps_per_second", "step_peak_bytes", "flops", "gemm_share", "copy_share"),
    *("disturbed", "parameters", "seconds", "paces", "config_hash", "sweep", "run_id", "started_utc", "commit", "path"),
]


def load(results: str | Path) -> pd.DataFrame:
    """One row a point and phase; null where it was not measured.

    budget: with the overrides, if any, that all models of the sweep share.
    mode: "fixed" batch or the "largest" that fits. step_peak_bytes: of a training step only.
    gemm_share: FLOPs per second over the machine's fastest matrix product in the point's dtype.
    copy_share: twice the step peak per second over the fastest copy; what is live at the peak has
    been written and will be read at least once, so the traffic is at least that.
    seconds: the time of each timed step. sweep: which call of the sweep measured it.
    Raises UserError naming a file that is not a record.
    """
    rows: list[dict[str, Any]] = []
    try:
        for path, r in record.find(results):
            if r.kind == "cost":
                rows += [_row(path, r, phase) for phase in PHASES]
    except ValueError as error:
        raise UserError(str(error)) from error
    return at_one_pace(pd.DataFrame(rows, columns=COLUMNS))


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


def _row(path: Path, r: record.Record, phase: str) -> dict[str, Any]:
    cost = r.cost
    times, ceilings = cost.get(phase) or {}, cost.get("ceilings") or {}
    median, flops = times.get("seconds_median"), cost.get(f"{phase}_flops")
    peak = cost.get("step_peak_bytes") if phase == "train" else None
    gemm, copy = ceilings.get(f"gemm_{r.dtype}_flops_per_second"), ceilings.get("copy_bytes_per_second")
    # Overrides of the model make another model of it; others are conditions that all of a sweep share.
    words = [w for w in r.variant if w.split("=")[0] not in CONDITIONS]
    own = [w for w in words if w.lstrip("+~").startswith("model.")]
    return {
        "model": " ".join([r.model, *own]),
        "task": r.task,
        "budget": " ".join([r.budget, *(w for w in words if w not in own)]),
        "machine": r.machine.get("name"),
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
        "disturbed": disturbed(cost["conditions"], cost["train"], cost["inference"])
        if cost.get("conditions")
        else bool(cost.get("disturbed")),
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


def curves(points: pd.DataFrame, mode: str = "fixed") -> pd.DataFrame:
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


def fits(points: pd.DataFrame) -> pd.DataFrame:
    """Exponents: the slope of log cost on log length over the lengths from FIT_FROM on, at the fixed
    batch, with the 95 % interval of least squares (Student's t; null for two points). The interval
    says how far the curve is from a power law there, besides the noise.

    One row for each group, model, phase and quantity: "time" (median seconds of a step) and, of
    training, "memory" (step peak bytes).
    """
    rows = []
    for (*group, model, phase), part in curves(points).groupby([*GROUP, "model", "phase"], sort=True, dropna=False):
        part = part[part.length >= FIT_FROM].sort_values("length")
        for quantity, column in (("time", "seconds_median"), ("memory", "step_peak_bytes")):
            known = part[part[column].notna()]
            if len(known) >= 2:
                exponent, half = slope(known.length, known[column])
                span = int(known.length.min()), int(known.length.max()), len(known)
                rows.append([*group, model, phase, quantity, exponent, exponent - half, exponent + half, *span])
    columns = [*GROUP, "model", "phase", "quantity", "exponent", "low", "high", "from_length", "to_length", "points"]
    return pd.DataFrame(rows, columns=columns)


def slope(lengths: Any, costs: Any) -> tuple[float, float]:
    """(slope of log cost on log length, half of its 95 % interval)."""
    x, y = np.log(np.asarray(lengths, float)), np.log(np.asarray(costs, float))
    x = x - x.mean()
    b = float(x @ y / (x @ x))
    free = len(x) - 2
    if free < 1:
        return b, float("nan")
    rest = y - y.mean() - b * x
    return b, float(stdtrit(free, 0.975) * np.sqrt(rest @ rest / free / (x @ x)))


def crossing(points: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """From which length on is a step faster than the reference's, at the same batch?

    length: where log time ratio, interpolated linearly in log length between measured points,
    passes zero for the last time. low, high: 95 % of RESAMPLES bootstrap curves, which draw the
    timed steps of every point anew and add the scatter between repeats of a point where the records
    hold any (a single sweep knows only the scatter between steps of one process).
    side: "within" the measured lengths; "below": faster at every one, `length` is then the shortest
    and low null; "above": slower at the longest, length and high null.
    """
    rows = []
    for (*group, phase), part in curves(points).groupby([*GROUP, "phase"], sort=True, dropna=False):
        scatter = between_repeats(part)
        base = part[part.model == reference].set_index("length")
        for model, mine in part[part.model != reference].groupby("model", sort=True):
            mine = mine.set_index("length")
            lengths = sorted(set(mine.index) & set(base.index))
            if not lengths:
                continue
            draw = np.random.default_rng(0)
            ratio = np.log([mine.seconds_median[n] / base.seconds_median[n] for n in lengths])
            drawn = [resampled(mine.loc[n], scatter, draw) - resampled(base.loc[n], scatter, draw) for n in lengths]
            at = float(passes(lengths, ratio[None])[0])
            low, high = np.quantile(passes(lengths, np.stack(drawn, axis=1)), (0.025, 0.975), method="inverted_cdf")
            side = "above" if np.isinf(at) else "below" if at <= lengths[0] else "within"
            # What lies outside the measured lengths has no bound on that side.
            low = low if lengths[0] < low < np.inf else np.nan
            rows.append([*group, model, phase, *(np.nan if np.isinf(v) else v for v in (at, low, high)), side])
    return pd.DataFrame(rows, columns=[*GROUP, "model", "phase", "length", "low", "high", "side"])


def between_repeats(part: pd.DataFrame) -> float:
    """Pooled standard deviation of log median time between repeats of a point; 0 where there are none."""
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in part.log_medians)
    free = sum(len(logs) - 1 for logs in part.log_medians)
    return float(np.sqrt(squares / free)) if free else 0.0


def resampled(point: Any, scatter: float, draw: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) log medians of the point's n timed steps, drawn with replacement.

    The k-th of n draws is the step whose rank is n times the k-th of n uniform numbers, and those
    are ratios of sums of exponential ones (David and Nagaraja 2003, section 2.5): two or three
    numbers a resample in place of n, with the same distribution.
    """
    times = np.sort(np.asarray(point.seconds, float))
    n = len(times)
    low, high = (n + 1) // 2, n // 2 + 1  # equal for odd n
    first, middle, last = draw.gamma((low, max(high - low, 1), n + 1 - high), size=(RESAMPLES, 3)).T
    middle *= high > low
    ranks = n * np.stack((first, first + middle)) / (first + middle + last)
    medians = times[np.minimum(ranks.astype(int), n - 1)].mean(axis=0)
    return np.log(medians) + draw.normal(0.0, scatter / np.sqrt(point.repeats), RESAMPLES)


def passes(lengths: list[int], ratios: np.ndarray) -> np.ndarray:
    """(R, K) log ratios at K rising lengths -> (R,) where each passes from above zero to below for
    the last time; the first length if it is never above, infinity if it ends there."""
    x = np.log(lengths)
    slower = ratios >= 0
    last = slower.shape[1] - 1 - slower[:, ::-1].argmax(axis=1)
    out = np.full(len(ratios), float(lengths[0]))
    out[slower[:, -1]] = np.inf
    rows = np.flatnonzero(slower.any(axis=1) & ~slower[:, -1])
    j = last[rows]
    a, b = ratios[rows, j], ratios[rows, j + 1]
    out[rows] = np.exp(x[j] + (x[j + 1] - x[j]) * a / (a - b))
    return out


def relative(
    points: pd.DataFrame, lengths: tuple[int, ...] = TABLE_2, reference: str = REFERENCE, phase: str = "train"
) -> pd.DataFrame:
    """relative_speed (above 1: faster than the reference) and relative_memory (below 1: less) of a
    step at each length, at equal batch. One row for each group, model and length."""
    table = curves(points)
    table = table[(table.phase == phase) & table.length.isin(lengths)]
    base = table[table.model == reference].set_index([*GROUP, "length"])
    where = pd.MultiIndex.from_frame(table[[*GROUP, "length"]])
    out = table[[*GROUP, "model", "length", "disturbed"]].copy()
    out["relative_speed"] = base.seconds_median.reindex(where).to_numpy(float) / table.seconds_median.to_numpy(float)
    out["relative_memory"] = table.step_peak_bytes.to_numpy(float) / base.step_peak_bytes.reindex(where).to_numpy(float)
    return out.sort_values([*GROUP, "model", "length"]).reset_index(drop=True)


def repeats(points: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """How well sweeps agree: for each training point that several calls of the sweep measured beside
    the reference, at the commit that last measured it, the spread of the relative speed (largest
    over least, less 1) and of step peak bytes."""
    train = points[(points.status == "ok") & (points["mode"] == "fixed") & (points.phase == "train")]
    newest = train.sort_values("run_id").groupby([*GROUP, "length", "model"], dropna=False).commit.transform("last")
    train = train[train.commit.isna() | (train.commit == newest)]
    key = [*GROUP, "length", "sweep"]
    base = train[train.model == reference].drop_duplicates(key, keep="last").set_index(key).seconds_median
    train = train.assign(
        speed=base.reindex(pd.MultiIndex.from_frame(train[key])).to_numpy(float) / train.seconds_median
    )
    rows = []
    for (*group, length, model), part in train.dropna(subset="speed").groupby(
        [*GROUP, "length", "model"], dropna=False
    ):
        if part.sweep.nunique() > 1:
            peaks = part.step_peak_bytes
            spread = part.speed.max() / part.speed.min() - 1
            rows.append(
                [
                    *group,
                    length,
                    model,
                    part.sweep.nunique(),
                    spread,
                    int(peaks.max() - peaks.min()),
                    part.disturbed.any(),
                ]
            )
    return pd.DataFrame(rows, columns=[*GROUP, "length", "model", "sweeps", "speed_spread", "peak_spread", "disturbed"])


def main() -> int:
    from lra.cost_table import summary

    words = [w for w in sys.argv[1:] if w != "--repeats"]
    points = load(options(words)["results_dir"])
    if points.empty:
        raise UserError("no cost points there; measure some with python -m lra sweep=cost")
    if "--repeats" in sys.argv:
        found = repeats(points)
        print(found.drop(columns=GROUP).to_string(index=False) if len(found) else "no point was measured by two sweeps")
        return 0 if len(found) else 1
    print(summary(points), end="")
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
