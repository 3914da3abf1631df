"""The stack without feed-forward layers against its equation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lra.models.bare import BareStack
from lra.settings.compose import config
from tests.help import drawn
from tests.help.mixers import masks
from tests.help.paper import assert_equation, normed, seeded, under, wake

DIM, LENGTH = 5, 12


class Gate(nn.Module):
    """A mixer that shows what it is handed: its input, its mask and its layer."""

    def __init__(self, layer: int, shared: dict) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((DIM,), 1.0 + layer + len(shared)))
        shared[layer] = None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x.cumsum(1) * self.weight * mask[..., None]


def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor, dropped=lambda x: x) -> Tensor:
    for n in range(3):
        own = under(w, f"layers.{n}")
        x = x + dropped(normed(own, "mixer_norm", x).cumsum(1) * own["mixer.weight"] * mask[..., None])
    return normed(w, "norm", x)


def made(**options) -> BareStack:
    torch.manual_seed(0)
    stack = BareStack(Gate, 3, DIM, **options)
    assert [layer.mixer.weight[0].item() for layer in stack.layers] == [1, 3, 5]
    wake(stack)
    return stack


def batch_normed(w: dict[str, Tensor], name: str, x: Tensor, mask: Tensor) -> Tensor:
    """torch's own, over the real tokens alone; nothing is there where nothing is real."""
    real = x[mask] if mask.any() else x[:, :0].flatten(0, 1)
    mean, variance = real.mean(0), real.var(0, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


@pytest.mark.parametrize("batchnorm", [False, True])
def test_norms_before_and_behind_the_sum(batchnorm: bool) -> None:
    def norm(w: dict[str, Tensor], name: str, x: Tensor, mask: Tensor) -> Tensor:
        return batch_normed(w, name, x, mask) if batchnorm else normed(w, name, x)

    def behind(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        for n in range(3):
            own = under(w, f"layers.{n}")
            x = norm(own, "mixer_norm", x + x.cumsum(1) * own["mixer.weight"] * mask[..., None], mask)
        return x

    def before(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        for n in range(3):
            own = under(w, f"layers.{n}")
            x = x + norm(own, "mixer_norm", x, mask).cumsum(1) * own["mixer.weight"] * mask[..., None]
        return norm(w, "norm", x, mask)

    for prenorm, equation in ((False, behind), (True, before)):
        stack = made(prenorm=prenorm, batchnorm=batchnorm).train()
        assert_equation(stack, equation, torch.randn(5, LENGTH, DIM), masks(LENGTH), double=1e-10, single=5e-5)


def test_dropout_of_whole_channels() -> None:
    stack = made(dropout=0.5, tie_dropout=True)
    assert [layer.dropout.tied for layer in stack.layers] == [True] * 3
    assert not made(dropout=0.5).layers[0].dropout.tied


@pytest.mark.parametrize("checkpoint", [False, True])
def test_equals_the_equation(checkpoint: bool) -> None:
    stack = seeded(made(dropout=0.2, checkpoint=checkpoint))

    def run(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        torch.manual_seed(5)
        return slow(w, x, mask, lambda x: drawn.dropped(x, 0.2))

    x, mask = torch.randn(5, LENGTH, DIM), masks(LENGTH)
    assert_equation(stack, run, x, mask, double=1e-10, single=None)
    assert_equation(stack.eval(), slow, x, mask, double=1e-10, single=5e-5)
    assert_equation(made(), slow, x, mask, double=1e-10, single=5e-5)


def test_layers_are_recomputed_instead_of_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, plain = [], torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        "lra.models.parts.layers.recompute", lambda *a, **words: calls.append(words) or plain(*a, **words)
    )
    x, mask = torch.randn(5, LENGTH, DIM, requires_grad=True), masks(LENGTH)
    made(checkpoint=True).eval()(x, mask)
    made().train()(x, mask)
    assert not calls
    made(checkpoint=True).train()(x, mask)
    assert calls == [{"use_reentrant": False}] * 3


@pytest.mark.parametrize("name", ["s4d", "lru", "s5"])
def test_a_block_is_its_mixer_in_the_bare_stack(name: str) -> None:
    whole, block = (config([f"model={n}"]).model for n in (name, f"{name}_block"))
    assert block["stack"]["_target_"] == "lra.models.bare.BareStack"
    assert {k: v for k, v in block.items() if k != "stack"} == {k: v for k, v in whole.items() if k != "stack"}
