"""Attention through inducing points, and pooling by attention, against their equations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.classifier import Classifier
from lra.models.isab import ISAB
from lra.models.parts.factory import build
from lra.models.parts.pma import AttentionPooling
from lra.models.stack import ResidualStack
from lra.models.transformer import FullAttention
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import join, normed, softmax_over, split, under


def mha(w: dict[str, Tensor], x: Tensor, y: Tensor, seen: Tensor, heads: int) -> Tensor:
    q, k, v = (split(t @ w[f"{n}.weight"].T, heads) for t, n in ((x, "query"), (y, "key"), (y, "value")))
    return join(softmax_over(q, k, v, seen)) @ w["out.weight"].T


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int = 3) -> Tensor:
    points = w["points"].expand(len(x), -1, -1)
    h = mha(under(w, "gather"), points, x, mask[:, None, None], heads)
    return mha(under(w, "spread"), x, h, torch.ones(1, 1, 1, len(w["points"])), heads)


@pytest.mark.parametrize("points", [5, 3])
@pytest.mark.parametrize("length", [1, 2, 50])
def test_the_layer_equals_the_equation(length: int, points: int) -> None:
    """More points than a head is wide, and fewer, which meet the input without keys and queries of it."""
    torch.manual_seed(length)
    assert_twin(ISAB(15, 3, qkv_dim=12, points=points), equation, 15, length)


def test_it_is_a_map_of_sets() -> None:
    torch.manual_seed(0)
    layer, x, order = ISAB(16, 2, points=4), torch.randn(2, 40, 16), torch.randperm(40)
    mask = torch.rand(2, 40) < 0.7
    torch.testing.assert_close(layer(x[:, order], mask[:, order]), layer(x, mask)[:, order], rtol=0, atol=1e-6)


def pooled(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """Eq. 6 and 7; one vector for each example, given to all of its positions."""
    z = normed(w, "norms.0", w["seed"] + mha(under(w, "attention"), w["seed"][None], x, mask[:, None, None], 3))
    return normed(w, "norms.1", z + F.relu(z @ w["feed.weight"].T + w["feed.bias"])).expand(x.shape)


class Spread(AttentionPooling):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, mask).unsqueeze(1).expand(x.shape)


@pytest.mark.parametrize("length", [1, 50])
def test_pooling_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    assert_twin(Spread(15, 3, 12), pooled, 15, length)


def classifier(**options: object) -> Classifier:
    torch.manual_seed(0)
    return Classifier(20, 3, 30, FullAttention, ResidualStack, 1, 16, 2, 16, **options).eval()


def test_every_model_can_be_pooled_so() -> None:
    model, tokens = classifier(pooling="pma"), torch.randint(1, 20, (2, 30))
    mask = torch.arange(30) < torch.tensor([[30], [11]])
    y = model(tokens, mask)
    torch.testing.assert_close(model(tokens[1:, :11], mask[1:, :11]), y[1:])
    assert not torch.allclose(model(tokens.flip(1), mask.flip(1)), y)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.pma.parameters())
    assert classifier(pooling="pma", documents=2)(tokens[None], mask[None]).shape == (1, 3)
    # Nothing else is built or drawn otherwise.
    assert torch.equal(classifier().stack.layers[0].mixer.query.weight, model.stack.layers[0].mixer.query.weight)


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.points: 0 is not above 0"):
        ISAB(16, 2, points=0)
    with pytest.raises(ValueError, match="size.heads: 3 does not divide qkv_dim 16"):
        ISAB(16, 3)
    with pytest.raises(ValueError, match="model.pooling=mean, which is then unused"):
        classifier(pooling="pma", answers="token")


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, ISAB))
