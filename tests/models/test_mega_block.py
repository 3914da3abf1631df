"""The layers that Mega was published with, against their equation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lra.models.mega_block import NORMS, MegaStack
from lra.models.parts.norms import ScaleNorm
from tests.help.paper import assert_equation, assert_normal, under, wake


class Mixer(nn.Module):
    """The mean of the real tokens, a map of it, and the layer's number."""

    def __init__(self, layer: int, shared: dict) -> None:
        super().__init__()
        self.map, self.layer = nn.Linear(6, 6), layer
        assert shared.setdefault("first", layer) == 0

    def forward(self, x: Tensor, mask: Tensor, residual: Tensor | None = None) -> Tensor:
        weight = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        y = self.map(mean).expand_as(x) * (1 + self.layer)
        return y if residual is None else y - 0.5 * residual


def equation(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, norm: str, prenorm: bool = False, batchnorm: bool = False
) -> Tensor:
    def normed(own: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        if batchnorm:
            real = x[mask]
            x = (x - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5).sqrt()
            return x * own[f"{name}.weight"] + own[f"{name}.bias"]
        if norm == "scale":
            return own[f"{name}.gain"] * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * own[f"{name}.weight"] + own[f"{name}.bias"]

    def mixed(own: dict[str, Tensor], x: Tensor) -> Tensor:
        real = mask.unsqueeze(-1).double()
        mean = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        return (mean @ own["mixer.map.weight"].T + own["mixer.map.bias"]) * (1 + n)

    def fed(own: dict[str, Tensor], x: Tensor) -> Tensor:
        inner = x @ own["inner.weight"].T + own["inner.bias"]
        return inner / (1 + (-inner).exp()) @ own["outer.weight"].T + own["outer.bias"]

    for n in range(2):
        own = under(w, f"layers.{n}")
        if prenorm:
            x = x + mixed(own, normed(own, "mixer_norm", x)) - 0.5 * x
            x = x + fed(own, normed(own, "mlp_norm", x))
        else:
            x = normed(own, "mixer_norm", x + mixed(own, x))
            x = normed(own, "mlp_norm", x + fed(own, x))
    return normed(w, "norm", x) if prenorm else x


@pytest.mark.parametrize(("norm", "batchnorm"), [("layer", False), ("scale", False), ("layer", True)])
def test_norms_before_the_parts(norm: str, batchnorm: bool) -> None:
    """The mixer is handed the residual as it is, and a norm stands at the end."""
    torch.manual_seed(0)
    stack = MegaStack(Mixer, 2, 6, 9, norm=norm, prenorm=True, batchnorm=batchnorm).train()
    wake(stack)
    mask = torch.arange(7) < torch.tensor([[7], [3], [0]])
    slow = partial(equation, norm=norm, prenorm=True, batchnorm=batchnorm)
    assert_equation(stack, slow, torch.randn(3, 7, 6), mask, single=1e-5)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_equals_the_equation(norm: str, checkpoint: bool) -> None:
    torch.manual_seed(0)
    stack = MegaStack(Mixer, 2, 6, 9, norm=norm, checkpoint=checkpoint)
    wake(stack)
    mask = torch.arange(7) < torch.tensor([[7], [3], [0]])
    assert_equation(stack, partial(equation, norm=norm), torch.randn(3, 7, 6), mask, single=1e-5)


def test_checkpointed_layers_are_computed_again_in_training_only() -> None:
    stack, calls = MegaStack(Mixer, 2, 6, 9, checkpoint=True), []
    stack.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    x, mask = torch.randn(1, 3, 6, requires_grad=True), torch.ones(1, 3, dtype=torch.bool)
    stack(x, mask).sum().backward()
    assert len(calls) == 2
    stack.eval()(x, mask).sum().backward()
    assert len(calls) == 3


def test_dropout_acts_twice_in_the_feed_forward_layer() -> None:
    torch.manual_seed(0)
    layer, x = MegaStack(Mixer, 1, 6, 400, dropout=0.5).train().layers[0], torch.randn(2, 300, 6)
    wake(layer)
    mask, seen = torch.ones(2, 300, dtype=torch.bool), {}
    for name in ("inner_dropout", "dropout"):
        part = getattr(layer, name)
        part.register_forward_hook(lambda module, given, y, name=name: seen.update({name: (given[0], y)}))
    y = layer(x, mask)
    for given, kept in seen.values():
        dropped = (kept == 0).double().mean()
        assert abs(dropped - 0.5) < 0.05
        torch.testing.assert_close(kept[kept != 0], 2 * given[kept != 0])
    given = layer.mixer_norm(x + layer.mixer(x, mask))
    torch.testing.assert_close(seen["inner_dropout"][0], nn.functional.silu(layer.inner(given)))
    torch.testing.assert_close(seen["dropout"][0], layer.outer(seen["inner_dropout"][1]))
    torch.testing.assert_close(y, layer.mlp_norm(given + seen["dropout"][1]))


def test_it_starts_as_the_authors_have_it() -> None:
    torch.manual_seed(0)
    layer = MegaStack(Mixer, 1, 6, 4000).layers[0]
    for part in (layer.inner, layer.outer):
        assert_normal(part.weight, 0.02)
        assert not part.bias.any()
    assert isinstance(layer.mixer_norm, nn.LayerNorm) and layer.dropout.p == layer.inner_dropout.p == 0
    assert ScaleNorm().gain == 1 and ScaleNorm()(torch.randn(2, 4).bfloat16()).dtype == torch.bfloat16


def test_a_bad_norm_is_told() -> None:
    with pytest.raises(ValueError, match=r"model.stack.norm: 'batch' is not one of layer, scale"):
        MegaStack(Mixer, 1, 6, 9, norm="batch")
