"""Blockwise attention against full attention under the mask of its permutations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.blockwise import Blockwise
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import patterned

LONGEST = 40


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, blocks: int, shifts: list[int]) -> Tensor:
    block = torch.arange(x.shape[1]) // -(-LONGEST // blocks)
    seen = torch.stack([(block[:, None] + s) % blocks == block for s in shifts])
    return patterned(len(shifts), seen)(w, x, mask)


@pytest.mark.parametrize("length", [1, 14, 27, 28, 29, 40])
def test_three_blocks_equal_their_masks(length: int) -> None:
    torch.manual_seed(length)
    layer = Blockwise(15, 5, LONGEST, qkv_dim=10)
    assert_twin(layer, partial(equation, blocks=3, shifts=[0, 0, 0, 1, 2]), 15, length)


def test_two_blocks_that_fill_the_length() -> None:
    torch.manual_seed(0)
    layer = Blockwise(15, 4, LONGEST, qkv_dim=8, blocks=2)
    assert_twin(layer, partial(equation, blocks=2, shifts=[0, 0, 1, 1]), 15, LONGEST)
    x, whole = torch.randn(1, LONGEST, 15), torch.ones(1, LONGEST, dtype=torch.bool)
    state = {n: p.double() for n, p in layer.state_dict().items()}
    expected = equation(state, x.double(), whole, 2, [0, 0, 1, 1])
    torch.testing.assert_close(layer(x, whole).double(), expected, rtol=0, atol=1e-5)


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.blocks: 1 is not 2 or more"):
        Blockwise(16, 2, 40, blocks=1)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, Blockwise))
