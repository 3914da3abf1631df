"""Top-k attention against all scores, of which the largest are kept."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.kvt import KVT
from lra.models.parts import softmax
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin, saved_bytes
from tests.help.paper import join, projected


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, top: int, rotary: bool = False) -> Tensor:
    q, k, v = projected(w, x, 3, rotary=rotary)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask[:, None, None], -torch.inf)
    last = scores.sort(-1, descending=True).values[..., min(top, x.shape[1]) - 1 :][..., :1]
    weights = scores.masked_fill(scores < last - 2**-16, -torch.inf).softmax(-1).nan_to_num()
    return join(weights @ v) @ w["out.weight"].T


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("length", [1, 5, 6, 130])
def test_the_layer_equals_the_equation(length: int, rotary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a tile of 64 queries, of one head of one example."""
    monkeypatch.setattr(softmax, "SCORES", 1)
    torch.manual_seed(length)
    layer = KVT(15, 3, 130, qkv_dim=12, rotary=rotary, top=5)
    assert_twin(layer, partial(equation, top=5, rotary=rotary), 15, length)


def test_keys_that_tie_with_the_last_all_count() -> None:
    layer, x = KVT(4, 1, 8, top=2), torch.eye(4)[[0, 1, 1, 1, 2, 3, 3, 3]][None]
    with torch.no_grad():
        for name in ("query", "key", "value", "out"):
            getattr(layer, name).weight.copy_(torch.eye(4))
        y = layer(x, torch.ones(1, 8, dtype=torch.bool))
    torch.testing.assert_close(y[0, 1], torch.eye(4)[1])
    # The query at 0 has one key of its own, and of the seven that tie for the second place all.
    share = torch.tensor([torch.e**0.5, 3, 1, 3])
    torch.testing.assert_close(y[0, 0], share / share.sum())


def test_no_scores_are_kept() -> None:
    torch.manual_seed(0)
    layer, x = KVT(16, 2, 600, top=8), torch.randn(1, 600, 16, requires_grad=True)
    assert saved_bytes(lambda: layer(x, torch.ones(1, 600, dtype=torch.bool))) < 12 * x.numel() * 4


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.top: 0 is not above 0"):
        KVT(16, 2, 40, top=0)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, partial(KVT, top=6)))
