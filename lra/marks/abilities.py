"""What models can do: from records with a score to one row a model and exam, over seeds.

Learning one of these exams is all or nothing, and when it happens is what differs. So a cell says how many seeds have
learnt it, and after how many sequences half of them had; one that has not by the end of its budget is censored there,
which says "not within so many" and neither "cannot" nor how much it will take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from lra.marks import stats
from lra.marks.capacity import Capacity, capacity, octaves, sight
from lra.marks.runs import by_cell
from lra.marks.twins import twins
from lra.record.answers import Answers
from lra.record.record import Record

GROUP = ["budget", "dtype"]  # scores and sequences are the same on every machine; core-seconds name theirs
CELL = [*GROUP, "row", "model"]
NEVER = float("inf")
SCORED = (
    "file", "score", "learnt", "floor", "ceiling", "limit", "threshold", "sequences", "core_seconds", "rates", "kinds",
    "reach", "lengths",
)  # fmt: skip
FIELDS = (
    "task", "fingerprint", "variant", "exam", "seeds", "learnt", "failed", "status", "reason", "score", "least", "most",
    "low", "high", "accuracy", "accuracy_low", "accuracy_high", "floor", "ceiling", "items", "threshold", "limit",
    "sequences", "core_seconds", "machine", "rates", "kinds", "capacity", "sight", "twins", "parameters",
    "active_parameters", "state_floats", "run_ids", "files", "edited", "contract", "blind", "departs", "stale",
)  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """A learning rate that was tried. cut: why it was not trained to the end, if it was not and might have learnt."""

    rate: float
    learnt: bool
    cut: str | None = None  # dropped | stopped


@dataclass(frozen=True)
class Window:
    """The learning rates that learn, from low to high. below, above: why that end is open, so that the window may be
    wider; null where the next rate was trained to the end, or diverged, and did not learn. without: rates between the
    two of which the same holds."""

    low: float
    high: float
    below: str | None
    above: str | None
    without: tuple[float, ...] = ()


def scored(r: Record, file: str) -> list[tuple[Any, ...]]:
    """SCORED of a record that has a score; else nothing.

    threshold   the score from which an exam counts as learnt
    limit       sequences of training at one rate
    sequences, core_seconds   when the score on valid was first there; null if it never was
    rates       of the ladder, a Rate each
    kinds, reach, lengths   as the record has them (its score and its contract)
    """
    if not (score := r.score):
        return []
    limit = r.steps_budget * r.batch_size if r.steps_budget and r.batch_size else None
    known = (score[name] for name in ("test", "learnt", "floor", "ceiling"))
    last = max(score["reached"], key=lambda point: point["score"], default={})
    when = (last.get(name) for name in ("score", "sequences", "core_seconds"))
    lengths = [twin | {"trained": r.length} for twin in score.get("lengths") or []]
    apart = score.get("kinds") or {}, r.contract.get("reach") or [], lengths
    return [(file, *known, limit, *when, rates(r), *apart)]


def rates(r: Record) -> tuple[Rate, ...] | None:
    """Of the ladder, ascending; null where the record does not say enough to tell which of them have learnt."""
    levels, reached = r.score.get("on_valid"), r.score["reached"]
    if not r.ladder or levels is None or not reached:
        return None
    needed = levels["floor"] + max(p["score"] for p in reached) * (levels["ceiling"] - levels["floor"])
    found = []
    for rung in r.ladder:
        learnt = any(accuracy >= needed for accuracy in rung["curve"]["valid_accuracy"])
        whole = rung["ended"] == "diverged" or rung["steps"] >= (r.steps_budget or 0)
        cut = None if learnt or whole else rung["ended"] or "stopped"
        found.append(Rate(rung["rate"], learnt, cut))
    return tuple(sorted(found, key=lambda rate: rate.rate))


def frame(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A row a record with a score."""
    return pd.DataFrame(rows, columns=SCORED)


def cells(table: pd.DataFrame, scores: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """One row for each budget, precision, exam row and model, from the rows of `lra.marks.runs` and of `frame`.

    seeds, learnt       with a score, and how many of them have learnt the exam; `failed` others ended otherwise
    score, least, most  median over seeds and their range: 0 at the exam's floor, 1 at its ceiling, outside if they are
    low, high           95 % interval of the mean score: with one seed over the test sequences, about that one trained
                        model; with several it holds the luck of training too
    accuracy            mean over seeds, and its interval (lra.marks.stats; of answers at positions by sequence)
    sequences           the least after which half of the seeds had learnt it (the median of Kaplan and Meier 1958,
                        J. Am. Stat. Assoc. 53, 457; all are followed to one limit): inf, censored at `limit`, if
                        fewer have
    core_seconds        the same, on `machine`: of several the one with most seeds
    rates               a Window; null where no rate is known to have learnt it
    kinds               accuracy of answers that are reported apart, mean over seeds
    capacity            where answers by octave of difficulty are no longer good (lra.marks.capacity); null elsewhere
    sight               how far a model could be good by the Jacobian it starts with; null where it was not asked
    twins               at the trained and at other lengths, lra.marks.twins.Twin
    state_floats        numbers that the mixers keep of the tokens; null where no record says it
    """
    runs = table[table.ability.astype(bool)].merge(scores, on="file", how="left")
    grouped = by_cell(runs, CELL)
    rows = [dict(zip(CELL, key, strict=True)) | _cell(own, answers) for key, own in grouped.items()]
    return pd.DataFrame(rows, columns=[*CELL, *FIELDS]).astype({"score": float, "seeds": int, "learnt": int})


def _cell(runs: list[Any], answers: Answers) -> dict[str, Any]:
    """FIELDS of one cell from its runs, one a seed."""
    ok, bad = ([r for r in runs if _has_score(r) is good] for good in (True, False))
    kept, last = ok or runs, (ok or runs)[-1]
    machine, timed = _machine(ok)
    limit = max((r.limit for r in ok if pd.notna(r.limit)), default=None)
    return {
        "task": last.task,
        "fingerprint": last.fingerprint,
        "variant": last.variant,
        "exam": last.exam,
        "seeds": len(ok),
        "learnt": sum(bool(r.learnt) for r in ok),
        "failed": len(bad),
        "status": "ok" if ok else last.status,
        "reason": bad[-1].reason if bad else None,
        **_scores(ok, answers),
        "items": max((r.items for r in ok), default=None),
        "threshold": last.threshold,
        "limit": limit,
        "sequences": half([_until(r, r.sequences, r.limit) for r in ok]),
        "core_seconds": half([_until(r, r.core_seconds, None) for r in timed]),
        "machine": machine,
        "rates": window([r.rates for r in ok if isinstance(r.rates, tuple)]),
        "kinds": _kinds([r.kinds for r in ok]),
        "capacity": _capacity(ok, answers),
        "sight": next((found for r in reversed(ok) if (found := sight(r.reach))), None),
        "twins": twins(ok),
        "parameters": kept[-1].parameters,
        "active_parameters": kept[-1].active_parameters,
        "state_floats": kept[-1].state_floats,
        "run_ids": tuple(r.run_id for r in kept),
        "files": tuple(r.file for r in kept),
        "edited": tuple(r.file for r in kept if r.edited),
        "contract": next((r.contract for r in kept if isinstance(r.contract, str)), None),
        "blind": max((r.blind for r in kept if pd.notna(r.blind)), default=None),
        "departs": last.departs,
        "stale": last.stale if isinstance(last.stale, str) else None,
    }


def _has_score(run: Any) -> bool:
    return bool(pd.notna(run.score) and pd.notna(run.accuracy))


def _scores(ok: list[Any], kept_answers: Answers) -> dict[str, Any]:
    """Score and accuracy of the seeds that have them, and how sure they are."""
    names = ("score", "least", "most", "low", "high", "accuracy", "accuracy_low", "accuracy_high", "floor", "ceiling")
    if not ok:
        return dict.fromkeys(names)
    floor, ceiling = ok[-1].floor, ok[-1].ceiling
    scores, accuracies = [r.score for r in ok], [r.accuracy for r in ok]
    known = kept_answers.right(tuple(r.answers for r in ok))
    bounds = (None, None) if known is None else tuple(map(float, stats.interval(known)))
    low, high = (None if b is None else (b - floor) / (ceiling - floor) for b in bounds)
    found = median(scores), min(scores), max(scores), low, high, float(np.mean(accuracies)), *bounds, floor, ceiling
    return dict(zip(names, found, strict=True))


def _until(run: Any, first: float | None, limit: float | None) -> float:
    """When a run had learnt its exam. One that is above the score on test and was not on valid needed all it got."""
    if not run.learnt:
        return NEVER
    first = limit if pd.isna(first) else first
    return NEVER if pd.isna(first) else float(first)


def half(values: Sequence[float]) -> float | None:
    """The least value that half of all reach; null of none."""
    return sorted(values)[(len(values) - 1) // 2] if len(values) else None


def _machine(ok: list[Any]) -> tuple[str | None, list[Any]]:
    """The machine with most of the runs, the first by name of several, and its runs."""
    names = [r.machine for r in ok]
    best = max(sorted(set(names)), key=names.count, default=None)
    return best, [r for r in ok if r.machine == best]


def window(ladders: Sequence[Sequence[Rate]]) -> Window | None:
    """Of several seeds: a rate learns if any seed has learnt at it, and does not if one was trained to the end and
    none has."""
    tried: dict[float, list[Rate]] = {}
    for rate in (rate for ladder in ladders for rate in ladder):
        tried.setdefault(rate.rate, []).append(rate)
    learnt = sorted(value for value, seen in tried.items() if any(r.learnt for r in seen))
    if not learnt:
        return None
    low, high = learnt[0], learnt[-1]
    below = max((value for value in tried if value < low), default=None)
    above = min((value for value in tried if value > high), default=None)
    failed = {value for value, seen in tried.items() if value not in learnt and any(r.cut is None for r in seen)}

    def open_because(value: float | None, word: str) -> str | None:
        if value is None:
            return f"no {word} rate was tried"
        how = "dropped" if any(r.cut == "dropped" for r in tried[value]) else "stopped"
        return None if value in failed else f"{value:g} was {how} before the end"

    without = tuple(sorted(value for value in failed if low < value < high))
    return Window(low, high, open_because(below, "lower"), open_because(above, "higher"), without)


def _kinds(kinds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in kinds for name in each)
    return {name: float(np.mean([each[name]["accuracy"] for each in kinds if name in each])) for name in names}


def _capacity(ok: list[Any], kept_answers: Answers) -> Capacity | None:
    """Where the score falls on the way to more difficult answers, of exams that report them by octave."""
    kinds = ok[-1].kinds if ok else {}
    if (found := octaves(kinds)) is None or any(r.kinds.keys() != kinds.keys() for r in ok):
        return None
    known = kept_answers.apart(tuple(r.answers for r in ok))
    numbers = [kinds[kind]["number"] for kind in kinds]
    if known is None or not np.array_equal(np.unique(known[1]), numbers):
        return None
    (word, starts), (right, which, clusters) = found, known
    levels = ok[-1].floor, ok[-1].ceiling
    return capacity(starts, right, np.searchsorted(numbers, which), clusters, levels, of=word)


def each(shown: pd.DataFrame) -> list[Any]:
    """Cells as tuples with names, null for what is missing."""
    return list(shown.astype(object).where(shown.notna(), None).itertuples())


def ordered(shown: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Of cells of one group: rows in the order of their exams, and models: those whose every seed has learnt most exams
    first, then by the seeds' shares, then by mean score; runs with overrides last."""
    exams = dict(zip(shown["row"], shown.exam, strict=True))
    rows = sorted(exams, key=lambda row: (exams[row].order, row))
    standing = {}
    for model, own in shown.groupby("model"):
        variant = bool(own.variant.astype(bool).all())
        share = float((own.learnt / own.seeds.clip(lower=1)).sum())
        mean = float(own.score.clip(0, 1).mean()) if own.score.notna().any() else -1.0
        standing[model] = (variant, -int(whole(own).sum()), -share, -mean, model)
    return rows, sorted(standing, key=lambda model: standing[model])


def whole(shown: Any) -> Any:
    """Of cells, or of one: has every seed learnt the exam?"""
    return (shown.seeds > 0) & (shown.learnt == shown.seeds) & (shown.failed == 0)
