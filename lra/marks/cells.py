"""From the rows of runs to one row a model and exam: accuracies over all machines, costs of one.

A score is of the budget, the precision, the protocol and the revisions, and machines differ in its rounding, which is
one draw more of the luck of training. Where they differ by more, tables say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from lra.marks import stats
from lra.marks.runs import CELL, GROUP, JOINED, REFERENCE, by_cell, local_floors
from lra.marks.skill import skill
from lra.record.answers import Answers

FIELDS = (
    "task", "fingerprint", "variant", "accuracy", "low", "high", "items", "seeds", "failed", "status", "reason",
    "skill", "floor", "parameters", "active_parameters", "state_floats", "steps", "train_flops", "run_ids", "files",
    "answers", "exam", "edited", "contract", "blind", "departs", "stale", "uses_2d", "pretraining", "machines", "apart",
    "searched",
)  # fmt: skip
SPENT = {"core_seconds": "training_core_seconds", "pretraining_core_seconds": "pretraining_core_seconds"}
COSTS = ("examples_per_second", "step_peak_bytes", "relative_speed", "relative_memory", *SPENT)


def cells(
    table: pd.DataFrame, answers: Answers, costs: pd.DataFrame | None = None, abilities: bool = False
) -> pd.DataFrame:
    """One row for each group, task row and model, from the rows of runs. costs: as `timed` gives them.

    machine             empty where runs of all machines count; else of a budget of minutes, whose steps depend on it
    machines, apart     of the runs, those with most first; p of "they score alike", null where it cannot be told
    timed               the machine whose costs are shown: of the group that with most cells

    accuracy            mean over `seeds` runs that ended ok; `failed` others did not (status, reason)
    low, high           its 95 % interval (lra.marks.stats.interval; without stored answers `wider`)
    skill, floor        above the best local floor on record for the same data, and which that is
    relative_*, parameters_ratio   to the Transformer's on the same task, budget, precision; costs on the same machine
    run_ids, files, answers        of the runs that ended ok, by seed; of all where none did
    edited              those of the files that were changed after they were written
    contract, blind     what is broken of the contract; the share of positions that cannot move an answer
    stale               whether the numbers of the model or the exam have changed since
    departs             what the model's own file sets otherwise than the exam's sizes
    searched            what lra.tune has chosen its settings by, null of none
    uses_2d             whether the model knows the rows and columns of images
    pretraining         what it was, null of a model that was trained from scratch; its core-seconds, costs too, are not
                        among `core_seconds`, those of training

    A run with overrides is a row of its own, named with them (`variant`). Exams of abilities have other rows
    (lra.marks.abilities); with `abilities` these are of them, and of no other.
    """
    scored = table[table.ability.astype(bool) == abilities]
    alone: dict[tuple[str, ...], list[list[Any]]] = {}
    for (budget, _, dtype, *rest), runs in by_cell(scored).items():
        alone.setdefault((budget, runs[-1].where, dtype, *rest), []).append(runs)
    best = local_floors(table)
    rows = [
        dict(zip(CELL, key, strict=True)) | _cell(own, best, answers) | _machines(own, alone.get(key, []))
        for key, own in by_cell(scored, JOINED).items()
    ]
    out = pd.DataFrame(rows, columns=[*CELL, *FIELDS]).astype({"accuracy": float, "seeds": int, "apart": float})
    return costed(
        _relative(out, {"parameters": "parameters_ratio"}), timed(table, abilities) if costs is None else costs
    )


def timed(table: pd.DataFrame, abilities: bool = False) -> pd.DataFrame:
    """Costs of one row for each budget, machine, precision, task row and model: medians of speed and of core-seconds
    and the largest peak over seeds, relative to the Transformer's there; run_ids of those that ended."""
    rows = []
    for key, runs in by_cell(table[table.ability.astype(bool) == abilities]).items():
        ended = [r for r in runs if r.status == "ok"]
        speed = _over(np.median, [r.train_examples_per_second for r in runs])
        spent = [_over(np.median, [getattr(r, name) for r in ended or runs]) for name in SPENT.values()]
        ids = tuple(r.run_id for r in ended)
        rows.append([*key, runs[-1].where, speed, _over(max, [r.step_peak_bytes for r in runs]), *spent, ids])
    measured = ["examples_per_second", "step_peak_bytes", *SPENT]
    out = pd.DataFrame(rows, columns=[*CELL, "where", *measured, "run_ids"]).astype(dict.fromkeys(measured, float))
    return _relative(out, {"examples_per_second": "relative_speed", "step_peak_bytes": "relative_memory"})


def costed(cells: pd.DataFrame, costs: pd.DataFrame, of: Callable[[str], bool] | None = None) -> pd.DataFrame:
    """Cells with COSTS as one machine of each group has them, named in `timed`, the runs there in `timed_ids`: of those
    `of` is true of, or else of all, that with most cells."""
    chosen: dict[tuple[str, ...], str] = {}
    for group, part in costs.groupby(["budget", "where", "dtype"]):
        counts = part.machine.value_counts()
        names = [name for name in counts.index if of is None or of(name)] or list(counts.index)
        chosen[group] = min(names, key=lambda name: (-counts[name], name))
    machines = [chosen.get(key, "") for key in zip(*(cells[c] for c in GROUP), strict=True)]
    out = cells.assign(timed=machines)
    known = costs.set_index(CELL)
    there = pd.MultiIndex.from_frame(out.assign(machine=machines)[CELL])
    out[list(COSTS)] = known[list(COSTS)].reindex(there).to_numpy(float)
    ids = known.run_ids.to_dict()
    return out.assign(timed_ids=[ids.get(key, ()) for key in there])


def _relative(out: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """With columns of what is relative to the Transformer in the same group and row."""
    base = out[out.model == REFERENCE].set_index([*GROUP, "row"])
    where = pd.MultiIndex.from_frame(out[[*GROUP, "row"]])
    for column, name in names.items():
        out[name] = out[column].to_numpy(float) / base[column].reindex(where).to_numpy(float)
    return out


def _machines(runs: list[Any], each: list[list[Any]]) -> dict[str, Any]:
    """Of the runs of a cell, and of all runs of each machine."""
    names = [r.machine for r in runs if isinstance(r.machine, str)]
    last = runs[-1]
    same = [
        [r.accuracy for r in own if r.status == "ok" and pd.notna(r.accuracy)]
        for own in each
        if (own[-1].config_hash, own[-1].fingerprint) == (last.config_hash, last.fingerprint)
    ]
    found = apart([own for own in same if own])
    ordered = sorted(set(names), key=lambda name: (-names.count(name), name))
    return {"machines": tuple(ordered), "apart": float("nan") if found is None else found}


def apart(scores: list[list[float]]) -> float | None:
    """p of "all groups of scores have one mean", by the F-test of variances between and within (Fisher 1925, chapter
    7); null of fewer than two groups, of one score each, and where none scatters within but they do between."""
    count, groups = sum(map(len, scores)), len(scores)
    if groups < 2 or count <= groups:
        return None
    mean = np.mean([score for own in scores for score in own])
    between = sum(len(own) * (np.mean(own) - mean) ** 2 for own in scores)
    within = sum(((np.array(own) - np.mean(own)) ** 2).sum() for own in scores)
    if within < 1e-18:
        return 1.0 if between < 1e-18 else None
    return float(fdtrc(groups - 1, count - groups, between / (groups - 1) * (count - groups) / within))


def _cell(runs: list[Any], floors: dict[tuple[str, str], tuple[str, float]], kept_answers: Answers) -> dict[str, Any]:
    """FIELDS of one cell from its runs, one a seed."""
    ok, bad = [r for r in runs if r.status == "ok"], [r for r in runs if r.status != "ok"]
    scored = [r for r in ok if pd.notna(r.accuracy)]
    kept, last = ok or runs, runs[-1]
    answers, items = tuple(r.answers for r in scored), max((r.items for r in scored), default=None)
    mean, low, high = (float("nan"),) * 3
    floor = floors.get((last.row, last.fingerprint), (None, None))
    if scored:
        mean = float(np.mean([r.accuracy for r in scored]))
        known = kept_answers.right(answers)
        if known is not None:
            low, high = map(float, stats.interval(known))
        elif pd.notna(items):
            low, high = stats.wider([r.accuracy for r in scored], items)
    return {
        "task": last.task,
        "fingerprint": last.fingerprint,
        "variant": last.variant,
        "accuracy": mean,
        "low": low,
        "high": high,
        "items": items,
        "seeds": len(scored),
        "failed": len(bad),
        "status": "ok" if ok else last.status,
        "reason": bad[-1].reason if bad else None,
        "skill": skill(mean, floor[1]) if scored else None,
        "floor": floor[0] if scored else None,
        "parameters": kept[-1].parameters,
        "active_parameters": kept[-1].active_parameters,
        "state_floats": kept[-1].state_floats,
        "steps": kept[-1].steps,
        "train_flops": _over(np.median, [r.train_flops for r in runs]),
        "run_ids": tuple(r.run_id for r in kept),
        "files": tuple(r.file for r in kept),
        "answers": answers,
        "exam": last.exam,
        "edited": tuple(r.file for r in kept if r.edited),
        "contract": next((r.contract for r in kept if isinstance(r.contract, str)), None),
        "blind": _over(max, [r.blind for r in kept]),
        "departs": last.departs,
        "stale": last.stale if isinstance(last.stale, str) else None,
        "searched": last.searched if isinstance(last.searched, str) else None,
        "uses_2d": bool(last.uses_2d),
        "pretraining": last.pretraining if isinstance(last.pretraining, str) else None,
    }


def _over(function: Callable[[list[float]], float], values: list[float | None]) -> float:
    """Of what was measured; not a number if nothing was."""
    known = [v for v in values if pd.notna(v)]
    return float(function(known)) if known else float("nan")
