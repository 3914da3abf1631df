"""ChordMixer against its rotations written out, an example at a time over its real tokens."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.chordmixer import ChordStack, Rotation, levels
from lra.models.parts.factory import build
from tests.help import drawn
from tests.help.compare import assert_mixer, assert_same
from tests.help.mixers import masks
from tests.help.paper import assert_equation, fed, normed, seeded, under, wake

MAX_LEN, DIM, MLP = 20, 13, 9
WIDTHS = [3, 2, 2, 2, 2, 2]  # 13 channels in 6 tracks, the first ones wider


def rotated(x: Tensor, mask: Tensor, widths: list[int]) -> Tensor:
    """Track 0 stays; track i takes what lies 2^(i-1) real tokens ahead, round the end; padding stays."""
    out = x.clone()
    for b in range(len(x)):
        real = mask[b].nonzero().flatten().tolist()
        for rank, place in enumerate(real):
            start = 0
            for i, width in enumerate(widths):
                source = real[(rank + (2 ** (i - 1) if i else 0)) % len(real)]
                out[b, place, start : start + width] = x[b, source, start : start + width]
                start += width
    return out


@pytest.mark.parametrize("length", [1, 2, 3, 13, MAX_LEN])
def test_the_rotation(length: int) -> None:
    layer = Rotation(DIM, MAX_LEN)
    x = torch.randn(5, length, DIM, generator=torch.Generator().manual_seed(0))
    for mask in (masks(length), torch.ones(5, length, dtype=torch.bool)):
        assert_same(lambda x, m=mask: layer(x, m), lambda x, m=mask: rotated(x, m, WIDTHS), [x], mask, 1e-7)
        assert torch.equal(layer(x, mask), rotated(x, mask, WIDTHS))


def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor, dropped=lambda x: x) -> Tensor:
    for n in range(5):
        own = under(w, f"layers.{n}")
        x = normed(own, "norm", x + rotated(fed(own, "mlp", normed(own, "mlp_norm", x), dropped), mask, WIDTHS))
    return x


def made(**options) -> ChordStack:
    torch.manual_seed(0)
    mixer = partial(build, Rotation, dim=DIM, max_len=MAX_LEN)
    stack = ChordStack(mixer, DIM, MLP, MAX_LEN, **options)
    wake(stack)
    return stack


def test_the_stack_equals_the_equation() -> None:
    for seed, length in enumerate((1, 7, MAX_LEN)):
        x = torch.randn(5, length, DIM, generator=torch.Generator().manual_seed(seed))
        assert_equation(made(), slow, x, masks(length, seed), double=1e-10, single=5e-5)


@pytest.mark.parametrize("batchnorm", ["behind", True])
def test_batchnorm_behind_the_sum_or_before_too(batchnorm: str | bool) -> None:
    def over_batch(w: dict[str, Tensor], name: str, x: Tensor, mask: Tensor) -> Tensor:
        real = x[mask]
        x = (x - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        for n in range(5):
            own = under(w, f"layers.{n}")
            before = over_batch(own, "mlp_norm", x, mask) if batchnorm is True else normed(own, "mlp_norm", x)
            x = over_batch(own, "norm", x + rotated(fed(own, "mlp", before), mask, WIDTHS), mask)
        return x

    stack = made(batchnorm=batchnorm).train()
    assert_equation(stack, equation, torch.randn(5, MAX_LEN, DIM), masks(MAX_LEN), double=1e-10, single=5e-5)


def test_a_bad_batchnorm_is_told() -> None:
    with pytest.raises(ValueError, match=r"model.stack.batchnorm: 'before' is not one of false, behind, true"):
        made(batchnorm="before")
    with pytest.raises(ValueError, match="model.checkpoint: true is not possible with batchnorm"):
        made(batchnorm="behind", checkpoint=True)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_dropout_and_checkpoints(checkpoint: bool) -> None:
    """In the feed-forward layers, by the numbers of the seed, kept or computed again."""
    stack = seeded(made(dropout=0.2, checkpoint=checkpoint))
    assert stack.checkpoint is checkpoint and made().checkpoint is False and made().layers[0].mlp.dropout.p == 0

    def run(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        torch.manual_seed(5)
        return slow(w, x, mask, lambda x: drawn.dropped(x, 0.2))

    x, mask = torch.randn(5, MAX_LEN, DIM), masks(MAX_LEN)
    assert_equation(stack, run, x, mask, double=1e-10, single=None)
    assert_equation(stack.eval(), slow, x, mask, double=1e-10, single=5e-5)


def test_layers_are_recomputed_instead_of_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = torch.utils.checkpoint.checkpoint
    again = lambda *given, **words: calls.append(words) or plain(*given, **words)  # noqa: E731
    monkeypatch.setattr("lra.models.parts.layers.recompute", again)
    x, mask = torch.randn(5, MAX_LEN, DIM, requires_grad=True), masks(MAX_LEN)
    made(checkpoint=True).eval()(x, mask)
    made().train()(x, mask)
    assert not calls
    made(checkpoint=True).train()(x, mask)
    assert calls == [{"use_reentrant": False}] * 5


def test_every_position_hears_of_every_other() -> None:
    assert [levels(n) for n in (1, 2, 3, 4, 5, 8, 9, 1024, 1025)] == [1, 1, 2, 2, 3, 3, 4, 10, 11]
    stack, x = made(), torch.randn(1, MAX_LEN, DIM, requires_grad=True)
    y = stack(x, torch.ones(1, MAX_LEN, dtype=torch.bool))
    for place in (0, 9, MAX_LEN - 1):
        (gradient,) = torch.autograd.grad(y[0, place].sin().sum(), x, retain_graph=True)
        assert gradient[0].any(-1).all()


def test_a_mixer_is_told_its_layer() -> None:
    told = []

    def mixer(layer: int, shared: dict) -> Rotation:
        told.append((layer, id(shared)))
        return Rotation(DIM, MAX_LEN)

    ChordStack(mixer, DIM, MLP, MAX_LEN)
    assert [layer for layer, _ in told] == list(range(5)) and len({place for _, place in told}) == 1


def test_as_many_channels_as_tracks() -> None:
    with pytest.raises(ValueError, match="size.dim: 5 is below the 6 tracks that a length of 20 needs"):
        Rotation(5, MAX_LEN)
    Rotation(6, MAX_LEN)


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: Rotation(dim, max_len))
