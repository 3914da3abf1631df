"""What is chosen of a results folder: globs, lists, order, and one line for what is not there."""

from __future__ import annotations

import pandas as pd
import pytest

from lra.errors import UserError
from lra.marks.query import asked, matches, query

CELLS = pd.DataFrame(
    [
        ("transformer", "listops", "listops-128", "quick", "CPU A"),
        ("performer", "listops", "listops-128", "quick", "CPU A"),
        ("performer", "text", "text", "paper", "CPU B"),
        ("performer model.mixer.features=64", "listops", "listops-128", "quick", "CPU A"),
        ("performer train.steps=[1,2]", "listops", "listops-128", "quick", "CPU A"),
        ("linear", "text", "text", "quick", "CPU A"),
    ],
    columns=["model", "task", "row", "budget", "machine"],
)
FAMILIES = {"performer": "kernel", "linear": "kernel", "transformer": "softmax"}


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("model=performer,trans*", [1, 2, 3, 4, 0]),  # in the order that they are named in
        ("model=[l?near]", [5]),
        ("task=text", [2, 5]),
        ("task=listops-128 variant=none", [0, 1]),
        ("family=kernel variant=features=*", [1, 2, 3, 5]),
        ("variant=model.mixer.*", [0, 1, 2, 3, 5]),
        ("variant=steps=[1?2]", [0, 1, 2, 4, 5]),  # brackets are no glob
        ("budget=quick machine=*A model=performer variant=none", [1]),
    ],
)
def test_rows_are_chosen(words: str, rows: list[int]) -> None:
    chosen, rest = asked([*words.split(), "results_dir=x"])
    chosen.check([CELLS], FAMILIES)
    assert rest == ["results_dir=x"] and chosen.of(CELLS, FAMILIES).index.tolist() == rows
    assert asked(chosen.words)[0] == chosen


def test_from_python_lists_will_do() -> None:
    assert query(model=["a", "b*"], task=None, sort="name") == query(model="a,b*", sort="name")
    assert not query() and str(query(machine="CPU A (R)")) == "'machine=CPU A (R)'"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"model": "performr"},
            "model: performr is on no record; there is linear, performer, transformer. Did you",
        ),
        (
            {"model": "linear", "task": "listops"},
            "no record is all of it; of the rest there is model performer",
        ),
        ({"modell": "x"}, "modell: is nothing to choose by; allowed: model, task"),
        ({"model": "a,,b"}, "model: '' is no name"),
        ({"model": "a`b"}, "is no name"),
        ({"sort": "a,b"}, "sort: a,b are several"),
    ],
)
def test_what_is_not_there_gets_one_line(values: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        query(**values).check([CELLS], FAMILIES)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_globs_have_two_signs() -> None:
    assert matches("a*c?", "abbcd") and not matches("a*c?", "abbc") and not matches("a.c", "abc")
