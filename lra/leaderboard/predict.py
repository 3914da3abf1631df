"""Do abilities predict? What there is of it to be told, as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lra.marks import predict
from lra.marks.runs import GROUP
from lra.results import Results

HEAD = ("Predicts", "models", "rho", "95 % over families", "p", "speed alone", "family alone")
NOTE = (
    "Spearman's rho over models, positive where the hypothesis of docs/hypotheses.md is right; p by permutation of the"
    " largest of all hypotheses of a table. Beside it what a model's speed and its relatives predict alone. Nothing is"
    f" told of fewer than {predict.FEWEST} models."
)


@dataclass(frozen=True)
class Table:
    title: str
    lines: tuple[tuple[str, ...], ...]


def tables(results: Results) -> list[Table]:
    """One for each race, and one for the published cells, of what is known of enough models."""
    return [Table(title, tuple(map(line, found))) for title, found in _each(results) if found]


def _each(results: Results) -> Iterator[tuple[str, list[predict.Found]]]:
    cells, able = results.cells, results.abilities
    if cells.empty or able.empty:
        return
    for (budget, machine, dtype), part in cells.groupby(GROUP):
        if budget == predict.RACE:
            own = able[able.dtype == dtype]
            where = ", ".join(filter(None, (machine, dtype)))
            yield f"Do abilities predict the race? {where}", predict.found(part, own)
    for dtype, own in able.groupby("dtype"):
        here = cells[cells.dtype == dtype]
        yield f"Do abilities predict published accuracies? {dtype}", predict.found(here, own, results.published)


def line(found: predict.Found) -> tuple[str, ...]:
    h = found.hypothesis
    name = f"{h.of}, {h.what} -> {h.predicts}"
    alone = ("-" if value is None else f"{value:.2f}" for value in (found.speed, found.family))
    interval = f"{found.low:.2f} to {found.high:.2f}"
    return name, str(found.models), f"{found.rho:.2f}", interval, f"{found.p:.4f}", *alone
