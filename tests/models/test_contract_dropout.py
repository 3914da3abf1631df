"""Dropout on attention weights by its law, in every model that takes it: read off weight by weight.

With values that are unit vectors, a head as wide as the input is long and no output projection, a
layer's output is its matrix of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from inspect import signature

import pytest
import torch
from torch import Tensor, nn

from lra.models.linformer import Linformer
from lra.models.local import Local
from lra.models.longformer import Longformer
from lra.models.sinkhorn import SinkhornAttention
from lra.models.synthesizer import KINDS, Synthesizer
from lra.models.transformer import FullAttention
from lra.models.transformer_xl import RelativeAttention
from tests.help.composed import settings
from tests.help.few import sequence_models
from tests.help.paper import seeded

LENGTH, HEADS, RATE, DRAWS = 12, 2, 0.3, 150

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "transformer": FullAttention,
    "transformer-causal": partial(FullAttention, causal=True),
    "local": partial(Local, block=4, neighbours=1),
    "longformer": partial(Longformer, window=6, dilation=[1, 2], global_tokens=2),
    "longformer-many": partial(Longformer, window=6, global_tokens=13),
    "longformer-rotary": partial(Longformer, window=6, global_tokens=2, rotary=True),
    "linformer": partial(Linformer, rank=LENGTH),
    "sinkhorn": partial(SinkhornAttention, block=LENGTH, noise=False),
    "transformer_xl": partial(RelativeAttention, segment=5, memory=5),
    **{f"synthesizer-{kind}": partial(Synthesizer, kind=kind) for kind in KINDS},
    "synthesizer-alone": partial(Synthesizer, dot_product=False),
}
# Gates stand around the weights: their law is told in the model's own tests; or the mixer is another row's.
ELSEWHERE = {"mega", "mega_block", "mega_s4d", "evolved", "switch_transformer"}
# The same values stand twice, in the block and in what is sorted into its place: weights come in halves.
HALVES = ("sinkhorn",)


class Read(nn.Module):
    """In place of the output projection."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def telltale(name: str) -> tuple[nn.Module, Tensor]:
    """A layer whose output is (B, L, H L), the weights of each head side by side; and its x."""
    torch.manual_seed(0)
    length = 13 if name.endswith("many") else LENGTH
    layer = MIXERS[name](dim=length, heads=HEADS, max_len=length, qkv_dim=HEADS * length, dropout=RATE).double()
    x = torch.linalg.qr(torch.randn(length, length, dtype=torch.float64))[0] * 2
    with torch.no_grad():
        for value in ("value", "value_global"):
            if hasattr(layer, value):
                getattr(layer, value).weight.copy_(torch.linalg.inv(x).T.repeat(HEADS, 1))
        if name == "linformer":
            layer.mix_keys.copy_(torch.eye(length))
    layer.out = Read()
    return layer, x


@pytest.mark.parametrize(
    ("name", "padded"),
    # What Linformer mixes is seen whole, with zeros for the padding.
    [(name, padded) for name in MIXERS for padded in (False, True) if (name, padded) != ("linformer", True)],
)
def test_weights_are_dropped_by_the_law(name: str, padded: bool) -> None:
    """Each weight by itself is 0 with the rate, else 1 / (1 - rate) of what it is; in eval() none is."""
    layer, x = telltale(name)
    length = len(x)
    mask = torch.ones(DRAWS, length, dtype=torch.bool)
    if padded:
        mask[:, length - 3 :] = False
    with torch.no_grad():
        layer.eval()
        exact = layer(x[None], mask[:1])[0].unflatten(-1, (HEADS, length))[mask[0]][:, :, mask[0]]
        torch.testing.assert_close(exact.sum(-1), torch.ones_like(exact[..., 0]))
        layer.train()
        found = layer(x.expand(DRAWS, -1, -1), mask).unflatten(-1, (HEADS, length))[:, mask[0]][..., mask[0]]
    seen = exact > 1e-6
    assert (found[:, ~seen].abs() < 1e-9).all(), "what is not seen has no weight"
    ratio = (found[:, seen] / exact[seen]) * (1 - RATE)  # (draws, weights)
    copies = 2 if name in HALVES else 1
    kept = (ratio * copies).round()
    torch.testing.assert_close(ratio * copies, kept, rtol=0, atol=1e-6)
    assert set(kept.unique().tolist()) == set(range(copies + 1))
    spread = (RATE * (1 - RATE) * copies) ** 0.5
    for axes in ((0, 1), (0,), (1,)):  # over all, for each weight, for each draw
        share = kept.mean(axes)
        each = kept.numel() / share.numel()
        assert ((share - copies * (1 - RATE)).abs() < 5 * spread / each**0.5).all(), axes
    # By itself: weights that are dropped together would agree more often than those of two draws.
    centred = (kept - copies * (1 - RATE)) / spread
    together = centred.T @ centred / DRAWS - torch.diag(centred.square().mean(0))
    assert together.abs().max() < 6 / DRAWS**0.5
    between = centred @ centred.T / kept.shape[1] - torch.diag(centred.square().mean(1))
    assert between.abs().max() < 6 / kept.shape[1] ** 0.5


# Transformer-XL stops the gradient at its memory, where a difference goes on: see its own tests.
@pytest.mark.parametrize("name", [name for name in MIXERS if name != "transformer_xl"])
def test_the_gradient_is_that_of_the_dropped_weights(name: str) -> None:
    """With the numbers of one seed the layer is a function: finite differences must give its gradient."""
    layer, x = telltale(name)
    layer = seeded(layer)
    mask = torch.arange(len(x)) < torch.tensor([[len(x)], [len(x) - 3]])
    real = mask[..., None]
    if name == "sinkhorn":
        mask[:] = True  # the share of real tokens in a sorted block is a constant in the backward pass

    def run(x: Tensor) -> Tensor:
        return (layer(x, mask) * real).sin().sum()

    torch.autograd.gradcheck(run, (x.expand(2, -1, -1).clone().requires_grad_(),), fast_mode=True)


def test_every_model_that_takes_it_is_here() -> None:
    taking = set()
    for name in sequence_models():
        target = settings(f"model={name}").model["mixer"]
        factory = target["_target_"] if isinstance(target, dict) else target
        module, _, cls = str(factory).rpartition(".")
        made = getattr(__import__(module, fromlist=[cls]), cls)
        if "dropout" in signature(made).parameters:
            taking.add(name)
    assert taking == {name.split("-")[0] for name in MIXERS} | ELSEWHERE


def test_a_copy_drops_by_itself() -> None:
    for name in MIXERS:
        layer, x = telltale(name)
        mask = torch.ones(1, len(x), dtype=torch.bool)
        torch.manual_seed(1)
        first, second = layer(x[None], mask), copy.deepcopy(layer)(x[None], mask)
        assert not torch.equal(first, second), name
        torch.manual_seed(1)
        assert torch.equal(layer(x[None], mask), first), name
