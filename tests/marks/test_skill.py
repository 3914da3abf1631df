"""The skill score: defined once, null where it is not known."""

from __future__ import annotations

import pytest

from lra.marks.skill import best_floor, skill


def test_ends_and_middle() -> None:
    assert skill(0.4, 0.4) == 0 and skill(1.0, 0.4) == 1 and skill(0.7, 0.4) == pytest.approx(0.5)
    assert skill(0.1, 0.4) == pytest.approx(-0.5)


def test_unknown_is_null() -> None:
    assert skill(None, 0.4) is None and skill(0.4, None) is None
    assert best_floor([("majority", 0.1)], ["majority", "byte_ngrams"]) is None


def test_the_best_local_rule_counts_and_no_other() -> None:
    scored = [("majority", 0.1), ("first_operator", 0.36), ("depth_3", 0.9)]
    assert best_floor(scored, ["majority", "first_operator"]) == ("first_operator", 0.36)


def test_a_floor_at_the_ceiling_leaves_nothing_to_score() -> None:
    assert skill(1.0, 1.0) is None
