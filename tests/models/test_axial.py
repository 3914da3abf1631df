"""Axial attention against full attention under the mask of a row and that of a column."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.axial import Axial
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import patterned, under


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, width: int, heads: int = 3) -> Tensor:
    place = torch.arange(x.shape[1])
    same = {"rows": place // width, "columns": place % width}
    seen = {name: (line[:, None] == line).expand(heads, -1, -1) for name, line in same.items()}
    return sum(patterned(heads, seen[name])(under(w, name), x, mask) for name in seen)


@pytest.mark.parametrize("length", [1, 6, 7, 8, 40])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = Axial(15, 3, 40, qkv_dim=12, width=7)
    assert_twin(layer, partial(equation, width=7), 15, length)


def test_the_grid_is_that_of_the_longest_input() -> None:
    for longest, width in ((1, 2), (16, 8), (17, 16), (1024, 64), (1025, 128), (4000, 128)):
        assert Axial(4, 1, longest).width == width
    with pytest.raises(ValueError, match="model.mixer.width: 0 is not above 0, or null"):
        Axial(4, 1, 16, width=0)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, Axial))
