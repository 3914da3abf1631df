"""What treatments did to trained models: a row a derived record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lra.marks.runs import machine_of
from lra.record.record import Record

COLUMNS = (
    "run_id", "parent", "option", "status", "reason", "row", "model", "budget", "seed", "machine", "device", "dtype",
    "accuracy", "flipped", "difference", "low", "high", "p", "loss", "loss_low", "loss_high", "executed", "batch",
    "rate", "rate_low", "rate_high", "peak", "rate_one", "rate_one_low", "rate_one_high", "peak_one", "speed",
    "peak_bytes", "parent_speed", "parent_peak_bytes", "parameters", "flops", "edited",
)  # fmt: skip
PLACED = (
    "id", "parent", "row", "budget", "machine", "dtype", "model", "name", "accuracy", "speed", "peak_bytes",
)  # fmt: skip
RIVALS = ("bf16", "compile")  # what a speed-up is to beat


def row(r: Record, edited: bool) -> tuple[Any, ...]:
    """COLUMNS of a derived record. What is only imitated has no rates and no peaks."""
    said = r.derived
    points = sorted(said.get("inference") or (), key=lambda p: -p["batch_size"])
    run, one = (points[0], points[-1]) if points else ({}, {})
    one = one if one.get("batch_size") == 1 else {}
    return (
        r.run_id, r.parent, option(r), r.status, r.reason, r.row, r.model, r.budget, r.seed, machine_of(r),
        r.machine.get("device"), r.dtype, r.accuracy_test, said.get("flipped"),
        *_ends(said.get("difference")), _of(said.get("difference"), "p"), *_ends(said.get("loss")),
        _of(said.get("facts"), "executed"), run.get("batch_size"),
        *_ends(run.get("ratio")), run.get("peak_ratio"), *_ends(one.get("ratio")), one.get("peak_ratio"),
        _of(run.get("child"), "examples_per_second"), _of(run.get("child"), "peak_bytes"),
        _of(run.get("parent"), "examples_per_second"), _of(run.get("parent"), "peak_bytes"), r.parameters,
        _of(said.get("facts"), "flops"), edited,
    )  # fmt: skip


def option(r: Record) -> str:
    """The treatment as it is typed: "fake_quant bits=4"."""
    return " ".join([str(r.treatment.get("name")), *map(str, r.treatment.get("words") or ())])


def _of(node: Mapping[str, Any] | None, key: str) -> Any:
    return node.get(key) if node else None


def _ends(node: Mapping[str, Any] | None) -> tuple[Any, Any, Any]:
    return tuple(_of(node, key) for key in ("value", "low", "high"))


def frame(rows: list[tuple[Any, ...]], trained: pd.DataFrame) -> pd.DataFrame:
    """The newest of each option of each parent, by parent and option. chain: the options from the run that was trained
    on; above: its parent's accuracy; over: its rate over that of the better of RIVALS on the same parent and machine,
    with over_low and over_high, null where neither is on record. trained: lra.marks.runs, for the accuracies of
    parents."""
    out = pd.DataFrame(rows, columns=COLUMNS).sort_values("run_id")
    chains = {r.run_id: (r.parent, r.option) for r in out.itertuples()}
    accuracy = {r.run_id: r.accuracy for known in (trained, out) for r in known.itertuples()}
    out = out.drop_duplicates(["parent", "option"], keep="last")
    rivals = _rivals(out)
    over = [_over(r, rivals) for r in out.itertuples()]
    out = out.assign(
        chain=[_chain(r.run_id, chains) for r in out.itertuples()],
        above=[accuracy.get(r.parent) for r in out.itertuples()],
        **{name: [each[i] for each in over] for i, name in enumerate(("over", "over_low", "over_high"))},
    )
    return out.sort_values(["row", "model", "budget", "seed", "parent", "chain"], kind="stable").reset_index(drop=True)


def _chain(run_id: str, chains: Mapping[str, tuple[str, str]]) -> str:
    """ "neurons > bf16"; a record that names itself as its own ancestor, which none of ours does, ends there."""
    parts: list[str] = []
    seen: set[str] = set()
    while run_id in chains and run_id not in seen:
        seen.add(run_id)
        run_id, own = chains[run_id]
        parts.insert(0, own)
    return " > ".join(parts)


def _rivals(table: pd.DataFrame) -> dict[tuple[str, str], Any]:
    """Of each parent, on each machine, the quickest of RIVALS."""
    ok = table[(table.status == "ok") & table.option.isin(RIVALS) & table.rate.notna()].sort_values("rate")
    return {(r.parent, r.machine): r for r in ok.itertuples()}


def _over(r: Any, rivals: Mapping[tuple[str, str], Any]) -> tuple[float | None, float | None, float | None]:
    """Of two measurements that had nothing in common but the parent: the squares of their log errors add up."""
    rival = rivals.get((r.parent, r.machine))
    if rival is None or pd.isna(r.rate) or r.option in RIVALS:
        return None, None, None
    value = math.log(r.rate) - math.log(rival.rate)
    margin = math.hypot(*(math.log(each.rate_high / each.rate) for each in (r, rival)))
    return math.exp(value), math.exp(value - margin), math.exp(value + margin)


def places(table: pd.DataFrame) -> pd.DataFrame:
    """Where the models of a `frame` stand that were timed, a row each: id, parent (null of one that nothing was done to
    here), row, budget, machine, dtype, model, name, accuracy, speed (inference, examples per second at the run's batch)
    and peak_bytes. A child stands by its ratios to its parent, so that hours of the machine do not move it; a parent on
    each machine where it was timed beside a child."""
    timed = table[(table.status == "ok") & table.rate.notna() & table.peak.notna() & table.above.notna()]
    timed = timed.sort_values("run_id")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for r in timed.itertuples():
        above = r.parent, r.machine
        own = {key: getattr(r, key) for key in ("row", "budget", "machine", "dtype", "model")}
        if above not in found:
            same = timed[(timed.parent == r.parent) & (timed.machine == r.machine)]
            speed, peak = same.parent_speed.median(), same.parent_peak_bytes.median()
            about = {"parent": None, "name": r.model, "accuracy": r.above, "speed": speed, "peak_bytes": peak}
            found[above] = {"id": r.parent} | own | about
        about = {"parent": r.parent, "name": r.option, "accuracy": r.accuracy}
        moved = {"speed": found[above]["speed"] * r.rate, "peak_bytes": found[above]["peak_bytes"] * r.peak}
        found[r.run_id, r.machine] = {"id": r.run_id} | own | about | moved
    return pd.DataFrame(list(found.values()), columns=PLACED)
