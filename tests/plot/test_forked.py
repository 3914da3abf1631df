"""A second process: the result, the error, and what happens where there is none."""

from __future__ import annotations

import os

import pytest

from lra.plot import forked
from lra.plot.forked import side_by_side


def told(text: str) -> tuple[str, int]:
    if not text:
        raise ValueError("no text")
    return text, os.getpid()


def test_the_result_comes_from_another_process() -> None:
    with side_by_side(told, "a") as first:
        text, process = first()
    assert text == "a" and process != os.getpid()


def test_its_error_is_raised_here() -> None:
    with side_by_side(told, "") as first, pytest.raises(ValueError, match="no text"):
        first()


def test_where_nothing_can_be_forked_it_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "get_all_start_methods", lambda: ["spawn"])
    with side_by_side(told, "a") as first:
        assert first() == ("a", os.getpid())
