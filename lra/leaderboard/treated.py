"""What treatments did to trained models: a row a derived record, by exam and parent."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lra import console
from lra.treat.table import points, ratio, short

HEAD = (
    "Exam",
    "Model",
    "Treatment",
    "accuracy",
    "less parent's, points",
    "answers flipped",
    "rate",
    "rate at batch 1",
    "peak",
)
TITLE = "What treatments do"
NOTES = (
    "Each model trained, then treated, beside itself untreated: on the same test items, with the 95 % interval of the"
    " paired difference; rate and peak of inference over the parent's, in turns, the rate with its interval. Below 1.00"
    " a rate is slower.",
    "imitated: floats show what would be answered, and nothing is timed.",
)


def rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """HEAD of each row of lra.results.Results.derived."""
    return [(r.row, _name(r), r.option, *_cells(r)) for r in table.itertuples()]


def _name(r: Any) -> str:
    """The model, with what was done to it before."""
    before = str(r.chain).split(" > ")[:-1]
    return " > ".join([r.model, *before])


def _cells(r: Any) -> tuple[str, ...]:
    if r.status != "ok":
        return (r.status, console.line(r.reason or ""), *["-"] * 4)
    timed = (ratio(r.rate, r.rate_low, r.rate_high), ratio(r.rate_one, r.rate_one_low, r.rate_one_high))
    cost = (*timed, short(r.peak)) if r.executed else ("imitated", "-", "-")
    return (console.percent(r.accuracy), points(r), f"{100 * r.flipped:.2f} %", *cost)
