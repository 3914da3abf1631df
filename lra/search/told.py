"""What a search says: how good its predictor is, what it found, and how that is trained."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

import numpy as np

from lra import console
from lra.search.asked import Asked, Bounds
from lra.search.found import Candidate, Cost
from lra.search.scored import BOUNDS, TRIES, Quality
from lra.search.space import words

SCORED = ("held out", "tokens", "points", "rank", "error", "FLOPs: rank", "error")
FOUND = ("model", "depth", "dim", "heads", "of layers", "predicted", "measured", "predicted", "measured")
BENEATH = (
    "rank: Spearman's correlation of predicted and measured latency within the length; error: the 90th percentile of",
    "|predicted / measured - 1|. FLOPs: those times one rate, held out likewise.",
)


def quality(of: Quality) -> str:
    rows = [
        [s.held_out, f"{s.length:,}", str(s.points), short(s.rank), part(s.error), short(s.flops_rank),
         part(s.flops_error)]
        for s in of.scores
    ]  # fmt: skip
    more = [
        f"memory, shapes held out: the 90th percentile of its error is {part(of.memory)}",
        f"the two halves of a point's timing differ by up to {part(of.noise)} (90th percentile)",
        regret(of.regrets),
    ]
    return "\n".join([console.table(rows, SCORED), *BENEATH, *more])


def regret(of: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> str:
    if not len(of[TRIES][0]):
        return "regret: too few shapes to tell"
    means = ", ".join(
        f"{n}: {part(float(ours.mean()))} ({part(float(theirs.mean()))})" for n, (ours, theirs) in of.items()
    )
    return (
        f"regret: how many parameters less than the best of all measured shapes has what is found by shapes held out,"
        f" in the mean of\n{len(of[TRIES][0])} choices of a mixer at a length, within bounds that"
        f" {100 * BOUNDS[0]:.0f} to {100 * BOUNDS[-1]:.0f} % of its shapes meet; by how many are measured (by FLOPs):"
        f"\n{means}"
    )


def found(what: Asked, best: Mapping[str, Candidate | None]) -> str:
    """The shapes and their commands; of a mixer without one, that."""
    rows = []
    for model, c in best.items():
        if c is None:
            rows.append([model, *["-"] * (len(FOUND) - 1)])
            continue
        costs = [text for kind in (latency, memory) for text in (kind(c.predicted), kind(c.measured))]
        rows.append([model, *map(str, c.shape.sizes), f"{c.parameters:,}", *costs])
    head = f"within {bounds(what.bounds)} at {what.lengths[-1]:,} tokens, of each mixer the most parameters:"
    lines = [head, console.table(rows, FOUND)]
    none = [model for model, c in best.items() if c is None]
    if none:
        lines.append(f"no shape of {', '.join(none)} was found within the bounds")
    commands = [command(what, c) for c in best.values() if c is not None]
    if commands:
        lines += ["", "Which of them learns most is not predicted. To train them:", *commands]
    return "\n".join(lines)


def command(what: Asked, c: Candidate) -> str:
    own = ["--config-dir", what.config_dir] if what.config_dir else []
    sizes = words(c.shape.sizes, what.space.mlp)
    return f"python -m lra {shlex.join([*own, *what.words, f'model={c.shape.model}', *sizes])}"


def bounds(of: Bounds) -> str:
    said = [
        *([f"{1e3 * of.latency:g} ms"] if of.latency is not None else []),
        *([console.size(of.memory)] if of.memory is not None else []),
    ]
    return " and ".join(said)


def latency(cost: Cost | None) -> str:
    return "-" if cost is None else f"{1e3 * cost.latency:.3g} ms"


def memory(cost: Cost | None) -> str:
    return "-" if cost is None else console.size(cost.memory)


def short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def part(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"
