"""Padding left out of what is pointwise: the same logits, in every stack; that it is left out, and there alone."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lra.check.subject import Sizes, difference
from lra.models.parts.layers import packing, row, whole
from lra.root import CONFIGS
from lra.settings import build
from lra.treatments import after
from lra.treatments.packed import Packed
from lra.treatments.tokens import Tokens
from tests.help import composed

SIZES = "size.depth=2 size.dim=32 size.qkv_dim=32 size.mlp_dim=48 size.heads=4"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
IMAGES = [m for m in MODELS if "uses_2d: true" in (CONFIGS / "model" / f"{m}.yaml").read_text()]
LENGTH = 150
# Each stack that there is, norms before and behind, and mixers that see what stands beyond a block's end.
STACKS = {
    "transformer": ("size.pooling=cls",),
    "performer": (),
    "fnet": (),
    "mamba2": (),
    "lstm": (),
    "switch_transformer": ("model.stack.capacity=1.0",),
    "etc": (),
    "s4d_block": ("+model.stack.prenorm=false",),
    "s5_block": ("+model.stack.batchnorm=true",),
    "mega_block": (),
    "mega_block prenorm": ("+model.stack.prenorm=true", "model.stack.norm=scale"),
    "chordmixer": (),
    "luna": (),
    "reformer": ("model.stack.feed_forward_chunks=3",),
}


class Image(Sizes):
    grid = 16, 16


@cache
def settings(model: str, *words: str) -> Any:
    return composed.settings(
        f"task={'image' if model in IMAGES else 'listops'}", *SIZES.split(), f"model={model}", *words
    )


def made(model: str, *words: str, length: int = LENGTH, documents: int = 1, answers: str = "sequence") -> nn.Module:
    torch.manual_seed(3)
    own, sizes = settings(model, *words), Sizes(max_len=length, documents=documents, answers=answers)
    model = build.model(own, Image(256) if model in IMAGES else sizes).eval()
    for each in model.modules():
        if type(each) is nn.LayerNorm:  # which starts as none
            nn.init.normal_(each.weight, 1, 0.3)
            nn.init.normal_(each.bias, 0, 0.3)
    return model


def batch(length: int = LENGTH) -> tuple[Tensor, Tensor]:
    """Of every length down to none, and with holes."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 64, (6, length), generator=draw)
    mask = torch.arange(length) < torch.tensor([length, length * 2 // 3, 7, 0, length, 1])[:, None]
    mask[4] = torch.rand(length, generator=draw) < 0.6
    return tokens, mask


def packed(model: nn.Module) -> nn.Module:
    return after(Packed(), SimpleNamespace(model=model)).model


@torch.no_grad()
def seen(model: nn.Module, tokens: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, tuple[int, ...]]]:
    """Logits, and the shape of what each module of the stack is given that looks at each position alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = []
    for name, module in model.stack.named_modules():
        inside = {"mixer", "packed_norm", "extra"} & set(name.split("."))
        if not inside and not list(module.children()) and type(module).__name__.endswith(("Linear", "Norm")):
            hooks.append(module.register_forward_hook(lambda m, x, y, name=name: shapes.update({name: x[0].shape})))
    try:
        return model(tokens, mask), shapes
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("name", STACKS)
def test_the_same_logits_of_real_tokens_alone(name: str) -> None:
    model, (tokens, mask) = made(name.split()[0], *STACKS[name]), batch()
    plain, before = seen(model, tokens, mask)
    found, shapes = seen(packed(model), tokens, mask)
    assert difference(found, plain) < 1e-5
    more = {"etc": 64, "transformer": 1}.get(name, 0) * len(mask)  # vectors in front
    chunks = 3 if name == "reformer" else 1
    assert shapes.keys() == before.keys() and len(shapes) >= 2
    for each, shape in shapes.items():
        feeds = chunks > 1 and "mlp" in each  # its hook tells of the last chunk
        assert shape[0] == 1 and before[each][0] == len(mask), each
        assert feeds or shape[1] == int(mask.sum()) + more, each
        assert not feeds or shape[1] <= -(-int(mask.sum()) // chunks), each
    again, _ = seen(model, tokens, mask)
    assert torch.equal(again, found)
    full = torch.ones_like(mask)
    model.stack.packs = False
    plain, _ = seen(model, tokens, full)
    model.stack.packs = True
    found, shapes = seen(model, tokens, full)
    assert torch.equal(found, plain) and all(shape[0] == len(mask) for shape in shapes.values())


@pytest.mark.slow
@pytest.mark.parametrize("model", [m for m in MODELS if m not in (*IMAGES, "evolved")])
def test_every_model_that_can(model: str) -> None:
    own, (tokens, mask) = made(model, length=600), batch(600)
    with torch.no_grad():
        plain = own(tokens, mask)
        assert difference(packed(own)(tokens, mask), plain) < 1e-5


def test_mixers_are_given_all_positions_with_zeros_at_padding() -> None:
    model, (tokens, mask) = made("linear"), batch()
    given: list[tuple[Tensor, ...]] = []
    model.stack.layers[1].mixer.register_forward_pre_hook(lambda m, x: given.append(x))
    with torch.no_grad():
        model(tokens, mask)
        packed(model)(tokens, mask)
    (x, _), (y, told) = given
    assert torch.equal(told, mask) and y.shape == x.shape and (y[~mask] == 0).all()
    torch.testing.assert_close(y[mask], x[mask], rtol=0, atol=1e-5)


def test_a_row_is_every_real_token_in_order() -> None:
    x, mask = torch.randn(6, LENGTH, 3), batch()[1]
    at = packing(mask, True)
    flat = torch.stack([x[b, i] for b in range(6) for i in range(LENGTH) if mask[b, i]])
    assert torch.equal(row(x, at), flat[None])
    again, told = whole(flat[None], at)
    assert told is mask and torch.equal(again, x.masked_fill(~mask[..., None], 0))
    assert packing(mask, False) is mask and packing(mask[:1], True) is not mask and row(x, mask) is x


@pytest.mark.parametrize(
    ("model", "words", "sizes"),
    [
        ("transformer", (), {"documents": 2}),
        ("linear", (), {"answers": "token"}),
        ("linear", ("size.pooling=max",), {}),
    ],
)
def test_other_ways_to_read(model: str, words: tuple[str, ...], sizes: dict[str, Any]) -> None:
    own, (tokens, mask) = made(model, *words, **sizes), batch()
    if sizes.get("documents"):
        tokens, mask = tokens.unflatten(0, (-1, 2)), mask.unflatten(0, (-1, 2))
    with torch.no_grad():
        plain, found = own(tokens, mask), packed(own)(tokens, mask)
    at = mask if "answers" in sizes else slice(None)
    assert difference(found[at], plain[at]) < 1e-5
    nothing = torch.zeros_like(mask)
    assert torch.isfinite(own(tokens, nothing)).all()


@pytest.mark.parametrize("model", ["transformer", "mega_block", "luna", "reformer"])
def test_gradients_are_the_same_and_training_is_what_it_was(model: str) -> None:
    own, (tokens, mask) = made(model), batch()

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(own(tokens, mask).square().sum(), list(own.parameters()), allow_unused=True))

    plain = gradients()
    packed(own)
    for a, b in zip(plain, gradients(), strict=True):
        assert (a is None) == (b is None) and (a is None or difference(b, a) < 1e-4)
    own.train()  # where dropout knows of examples and positions
    assert all(shape[0] == len(mask) for shape in seen(own, tokens, mask)[1].values())


@pytest.mark.parametrize(
    ("model", "says"),
    [("evolved", "EvolvedStack does more than mixing"), *((m, "no stack of layers over tokens") for m in IMAGES)],
)
def test_what_it_cannot_be_done_to(model: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        packed(made(model))


def test_tokens_are_left_out_before_they_are_packed_or_not_at_all() -> None:
    with pytest.raises(ValueError, match="packed"):
        after(Tokens(), SimpleNamespace(model=packed(made("transformer"))))
