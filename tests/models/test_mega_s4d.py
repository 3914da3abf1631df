"""Mega-S4D: the convolution by its recurrence, a step at a time, and all weights of the attention."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.mega import Mega
from lra.models.mega_s4d import MegaS4D
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import LENGTHS, assert_long, defaults, masks, tagged
from tests.help.paper import assert_equation, under, wake
from tests.help.recurrence import recurrent
from tests.models.test_mega import CHUNK, KEYS, equation
from tests.models.test_s4d import run_forth_and_back


def convolved(w: dict[str, Tensor], x: Tensor) -> Tensor:
    return run_forth_and_back(under(w, "average"), x)


@pytest.mark.parametrize("chunk", [CHUNK, None])
def test_equals_the_recurrence(chunk: int | None) -> None:
    for seed, length in enumerate(LENGTHS):
        torch.manual_seed(seed)
        layer = MegaS4D(4, 101, chunk=chunk, keys=KEYS, expand=3, state=6, dt_max=0.5)
        wake(layer)
        slow = recurrent(partial(equation, chunk=chunk, attention="softmax", average=convolved))
        assert_equation(layer, slow, torch.randn(5, length, 4), masks(length, seed), double=1e-10, single=1e-5)


def test_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(MegaS4D(4, 16_384, keys=KEYS, state=8), 4)


def test_what_learns_slowly() -> None:
    rates = ("log_decay", "log_dt", "frequency")
    slow = {f"average.rates.{name}": {"rate": 0.2, "decay": 0.0} for name in rates}
    assert tagged(MegaS4D(8, 9, rate=0.2)) == {**slow, "average.weight": {"rate": 0.2}}
    assert MegaS4D(8, 9).average.rates.log_decay.shape == (8, 8), "modes of its own a channel"


def test_where_nothing_is_said_it_is_mega() -> None:
    own = {"init": "lin", "state": 16, "dt_min": 0.001, "dt_max": 0.1, "rate": 0.1}
    shared = {n: v for n, v in defaults(Mega).items() if n not in ("speeds", "truncation")}
    assert defaults(MegaS4D) == {**shared, **own}


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, partial(MegaS4D, chunk=16, dt_max=0.5)))
