"""The span of an exam's axis: in percent, whatever there is to show."""

from __future__ import annotations

import pandas as pd
import pytest

from lra.plot.exams import _span


def span(models: list[float], floors: list[tuple[float, bool]]) -> tuple[float, float]:
    known = pd.DataFrame({"accuracy": models, "low": models, "high": models}, dtype=float)
    rules = pd.DataFrame({"accuracy": [a for a, _ in floors], "local": [local for _, local in floors]})
    return _span(known, rules)


def test_it_holds_models_and_the_best_local_floor_and_floors_that_are_near() -> None:
    low, high = span([0.40, 0.44], [(0.38, True), (0.97, False)])
    assert low == pytest.approx(38 - 0.06 * 6) and high == pytest.approx(44 + 0.06 * 6)
    low, high = span([0.40, 0.44], [(0.41, False)])
    assert (low, high) == pytest.approx((40 - 0.24, 44 + 0.24))


def test_floors_alone_and_nothing_at_all() -> None:
    assert span([], [(0.1, False), (0.5, False)]) == pytest.approx((10 - 2.4, 50 + 2.4))
    assert span([], []) == pytest.approx((0 - 6.0, 100 + 6.0))
