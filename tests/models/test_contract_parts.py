"""Training draws by example: whole models, alone, in parts, in any order, padded further, checkpointed or not."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from lra.check.subject import Subject
from lra.models.classifier import Classifier
from lra.models.linear import LinearAttention
from lra.models.parts.chance import Chance, tell
from lra.models.reformer import LSHAttention, ReversibleStack
from lra.models.stack import ResidualStack
from lra.models.synthesizer import KINDS, Synthesizer
from lra.models.transformer import FullAttention
from lra.settings.schema import Settings
from tests.help import composed
from tests.help.few import others_slow, sequence_models

LONGEST, LENGTHS = 150, [150, 61, 97, 5]
TINY = ["size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", "size.depth=2", "size.dropout=0.2"]
TINY += ["size.attention_dropout=0.3"]
SIZES = {"depth": 2, "dim": 16, "heads": 2, "mlp_dim": 16, "dropout": 0.2, "attention_dropout": 0.3}
MORE = {
    **{
        f"{name}-causal": lambda mixer=mixer, **o: Classifier(
            64, 3, LONGEST, partial(mixer, conv_kernel=3, causal=True), ResidualStack, **SIZES, **o
        )
        for name, mixer in {"transformer": FullAttention, "linear": LinearAttention}.items()
    },
    "reformer-chunks": lambda **o: Classifier(
        64, 3, LONGEST, partial(LSHAttention, chunk=8), partial(ReversibleStack, feed_forward_chunks=4), **SIZES, **o
    ),
    **{
        f"synthesizer-{kind}": lambda kind=kind, **o: Classifier(
            64, 3, LONGEST, partial(Synthesizer, kind=kind), ResidualStack, **SIZES, **o
        )
        for kind in KINDS
    },
}
NAMES = [*sequence_models(), *MORE]
OFTEN = ("transformer", "performer", "reformer", "sinkhorn", "transformer_xl", "mega", *MORE)


@cache
def settings(name: str) -> Settings:
    return composed.settings(f"model={name}", *TINY)


def built(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    made = MORE[name](**options) if name in MORE else Subject(replace(settings(name), seed=0), LONGEST).build(**options)
    return made.double().train()


def questions() -> tuple[Tensor, Tensor]:
    mask = torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(1, 64, mask.shape, generator=torch.Generator().manual_seed(1))
    return tokens * mask, mask


def asked(model: nn.Module, examples: list[int], length: int, step: int = 3) -> tuple[Tensor, list[Tensor]]:
    """Logits and gradients of these examples, cut to a length, in training."""
    tokens, mask = (t[examples, :length] for t in questions())
    tell(model, 7, step, torch.tensor(examples))
    logits = model(tokens, mask)
    weight = torch.arange(1.0, 1 + logits.shape[1], dtype=logits.dtype) * (1 + torch.tensor(examples)[:, None])
    gradients = torch.autograd.grad((logits * weight).sum(), list(model.parameters()), allow_unused=True)
    return logits.detach(), [torch.zeros(()) if g is None else g for g in gradients]


@pytest.mark.parametrize("name", others_slow(NAMES, OFTEN))
def test_a_batch_in_parts_of_like_length_trains_the_same(name: str) -> None:
    model = built(name)
    whole, gradients = asked(model, [0, 1, 2, 3], LONGEST)
    parts = [([3], 5), ([2, 1], 97), ([0], LONGEST)]
    if name == "linformer":
        parts = [(examples, LONGEST) for examples, _ in parts]  # its mixtures are of all positions
    found = [asked(model, *part) for part in parts]
    for (examples, _), (logits, _) in zip(parts, found, strict=True):
        torch.testing.assert_close(logits, whole[examples], rtol=1e-7, atol=1e-9)
    for total, *shares in zip(gradients, *(g for _, g in found), strict=True):
        torch.testing.assert_close(sum(shares), total, rtol=1e-6, atol=1e-8)
    other, _ = asked(model, [0, 1, 2, 3], LONGEST, step=4)
    assert ((other - whole).abs().amax(1) > 1e-6).all(), "another step draws otherwise"


@pytest.mark.parametrize("name", others_slow(NAMES, OFTEN))
def test_checkpointing_and_copies_draw_the_same(name: str) -> None:
    model = built(name)
    expected, gradients = asked(model, [0, 1, 2], 97)
    twins = [copy.deepcopy(model)]
    if "reformer" not in name:
        twins.append(built(name, checkpoint=True))
        twins[1].load_state_dict(model.state_dict())
    for twin in twins:
        logits, again = asked(twin, [0, 1, 2], 97)
        assert torch.equal(logits, expected)
        for a, b in zip(again, gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_every_place_has_a_stream_of_its_own() -> None:
    model = built("sinkhorn")
    tell(model, 0, 0, torch.arange(4))
    streams = [module.told for module in model.modules() if isinstance(module, Chance)]
    assert len(streams) == 1 + 2 * 5, (
        "embedding; in each layer weights, noise, residual and twice the feed-forward layer"
    )
    assert len(torch.stack(streams).unique()) == 4 * len(streams)


def test_the_documents_of_a_pair_draw_by_themselves_and_as_a_pair() -> None:
    torch.manual_seed(0)
    model = MORE["synthesizer-dense"](documents=2).double().train()
    tokens, mask = (t[[0, 0, 1, 1]].unflatten(0, (2, 2)) for t in questions())
    seen = []
    model.stack.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    for pairs in ([0, 1], [1], [1, 0]):
        tell(model, 1, 0, torch.tensor(pairs))
        model(tokens[pairs], mask[pairs])
    first, second = seen[0].unflatten(0, (2, 2)).unbind(1)
    assert (first - second).abs().max() > 0.1
    torch.testing.assert_close(seen[1], seen[0][2:])
    torch.testing.assert_close(seen[2], seen[0][[2, 3, 0, 1]])
