"""A model in float64 computes in float64, and whatever state it comes from its answers follow from that state alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from inspect import signature

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lra.check.subject import Subject, padded
from lra.errors import UserError
from lra.models.bigbird import BigBird, ExtraTokens
from lra.models.classifier import Classifier
from lra.models.linear import LinearAttention
from lra.models.longformer import Longformer
from lra.models.nystromformer import Nystromformer
from lra.models.performer import Performer
from lra.models.reformer import LSHAttention, ReversibleStack
from lra.models.sinkhorn import SinkhornAttention
from lra.models.sparse import Sparse
from lra.models.stack import ResidualStack
from lra.models.synthesizer import KINDS, Synthesizer
from lra.models.transformer import FullAttention
from lra.models.transformer_xl import RelativeAttention
from lra.settings.schema import Settings
from tests.help import composed
from tests.help.few import FEW, others_slow, sequence_models

LENGTH = 150
TINY = ["size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", "size.depth=2"]


def of(mixer: Callable[..., nn.Module], stack: Callable[..., nn.Module] = ResidualStack, **options) -> Classifier:
    return Classifier(64, 3, LENGTH, mixer, stack, depth=2, dim=16, heads=2, mlp_dim=16, **options)


# What no configuration sets, and has tables or draws of its own.
MORE: dict[str, Callable[[], Classifier]] = {
    "bigbird-etc": lambda: of(
        partial(BigBird, block=8, global_blocks=0, extra_tokens=3), partial(ExtraTokens, extra_tokens=3)
    ),
    "linear-causal": lambda: of(partial(LinearAttention, conv_kernel=3, causal=True)),
    "transformer-causal": lambda: of(partial(FullAttention, conv_kernel=3, causal=True)),
    "longformer-small": lambda: of(partial(Longformer, window=16, dilation=[1, 2], global_tokens=9)),
    "nystromformer-uneven": lambda: of(partial(Nystromformer, landmarks=7)),
    "performer-relu": lambda: of(partial(Performer, features=16, kernel="relu")),
    "performer-redrawn": lambda: of(partial(Performer, features=16, hyperbolic=True, redraw=2)),
    "reformer-small": lambda: of(partial(LSHAttention, chunk=8, redraw=3), ReversibleStack),
    "sinkhorn-small": lambda: of(partial(SinkhornAttention, block=8)),
    "sparse-strided": lambda: of(partial(Sparse, pattern="strided", stride=8, global_tokens=1)),
    "transformer_xl-short": lambda: of(partial(RelativeAttention, segment=16, memory=40), position="none"),
    **{f"synthesizer-{kind}": lambda kind=kind: of(partial(Synthesizer, kind=kind)) for kind in KINDS},
}
NAMES = [*sequence_models(), *MORE]
OFTEN = (*FEW, "bigbird-etc", "performer-redrawn", "reformer-small", "synthesizer-dense")


@cache
def settings(name: str) -> Settings:
    return composed.settings(f"model={name}", *TINY)


def built(name: str, seed: int = 0, **options: str) -> Classifier:
    """The model `name` from `seed`, no parameter left where it starts at zero."""
    if name in MORE:
        torch.manual_seed(seed)
        model = MORE[name]()
    else:
        model = Subject(replace(settings(name), seed=seed), LENGTH).build(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def questions(lengths: tuple[int, ...] = (LENGTH, 61)) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(1, 64, (2, max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = padded(list(lengths))
    return tokens * mask, mask


class NoFloat32(TorchDispatchMode):
    """Fails where an operation makes float32 numbers that are not exact in it: integers and infinities are."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.dtype in (torch.float32, torch.bfloat16, torch.float16):
                uninitialised = "empty" in str(func)
                assert uninitialised or torch.equal(x, x.round()), f"{func} made {x.dtype} in a float64 model"
        return out


@pytest.mark.parametrize("name", others_slow(NAMES, OFTEN))
def test_a_float64_model_computes_in_float64(name: str) -> None:
    for lengths in ((LENGTH, 61), (LENGTH, LENGTH)):
        model = built(name).double().train()
        with NoFloat32():
            logits = model(*questions(lengths))
            logits.square().sum().backward()
        assert logits.dtype == torch.float64
        assert all(p.grad is None or p.grad.dtype == torch.float64 for p in model.parameters())


@pytest.mark.parametrize("name", others_slow(sequence_models()))
def test_rotary_positions_are_float64_too(name: str) -> None:
    """Of the mixers that name them; the others say that they cannot rotate."""
    mixer = instantiate(settings(name).model["mixer"])
    if "rotary" not in signature(mixer.func).parameters:
        with pytest.raises(UserError, match="model.position: rotary is not possible for"):
            built(name, position="rotary")
        return
    model = built(name, position="rotary").double()
    with NoFloat32():
        model(*questions())


def answers(model: nn.Module, lengths: tuple[int, ...] = (LENGTH, 61)) -> Tensor:
    with torch.no_grad():
        return model.eval()(*questions(lengths))


@pytest.mark.parametrize("name", others_slow(NAMES, OFTEN))
def test_a_loaded_state_is_all_that_counts(name: str) -> None:
    """Whatever a model was asked before, and of whichever copy: what it keeps from then must not outlive the state."""
    model, other, third = (built(name, seed) for seed in (1, 2, 3))
    expected, shorter = answers(other), answers(other, (61, 40))
    assert not torch.equal(answers(model), expected), "two seeds must differ for this to mean anything"
    answers(model, (61, 40))
    model.load_state_dict(other.state_dict())
    assert torch.equal(answers(model), expected)
    assert torch.equal(answers(model, (61, 40)), shorter)
    twin = copy.deepcopy(model)
    assert torch.equal(answers(twin), expected)
    twin.load_state_dict(third.state_dict())
    assert torch.equal(answers(twin), answers(third))
    assert torch.equal(answers(model), expected), "the copy's state reached the original"
    twin.load_state_dict(copy.deepcopy(other.state_dict()), assign=True)
    assert torch.equal(answers(twin), expected)


@pytest.mark.parametrize("name", others_slow(NAMES, OFTEN))
def test_a_converted_model_keeps_nothing_of_its_old_type(name: str) -> None:
    model, fresh = built(name), built(name).double()
    exact = answers(fresh)
    single = answers(model)
    assert torch.equal(answers(model.double()), exact), "asked in float32 before"
    assert torch.equal(answers(model.float()), single), "and back"
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["performer-redrawn", "reformer-small"])
def test_what_is_drawn_anew_follows_the_loaded_seed(name: str) -> None:
    """A model that has drawn already goes on as the one whose state it is given, copies and converted ones too."""

    def train(model: Classifier, steps: int) -> Classifier:
        for _ in range(steps):
            model.train()(*questions()).sum().backward()
            model.zero_grad()
        return model

    other = train(built(name, 2), 1)
    started = other.state_dict()
    model = train(built(name, 1), 4)
    model.load_state_dict(started)
    twin, double = copy.deepcopy(model), copy.deepcopy(model).double()
    expected = train(other, 5).state_dict()
    for again in (model, twin, double):
        for key, value in train(again, 5).state_dict().items():
            assert torch.equal(value.to(expected[key]), expected[key]), key
