"""Tokens left out between layers: what is attended, against dense weights; which go; and that nothing else moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lra.treatments import after, facts
from lra.treatments.tokens import Fewer, Tokens, counts
from tests.treatments.test_options import answers, batch_of, subject

MIXERS = {
    "transformer": (), "linear": (), "performer": (), "performer relu": ("+model.mixer.kernel=relu",),
}  # fmt: skip


def mixer_of(name: str) -> tuple[Any, nn.Module]:
    trainee = subject(name.split()[0], "task.max_len=300", *MIXERS[name])
    return trainee, trainee.model.double().stack.layers[0].mixer


def weights(name: str, mixer: Any, x: Tensor) -> Tensor:
    """Of one example without padding, all L x L of each head: x (L, D) -> (H, L, L)."""
    width = mixer.head_dim
    q, k = (layer(x).unflatten(-1, (mixer.heads, width)) for layer in (mixer.query, mixer.key))
    out = torch.zeros(mixer.heads, len(x), len(x), dtype=x.dtype)
    for h in range(mixer.heads):
        for i in range(len(x)):
            if name == "transformer":
                row = (k[:, h] @ q[i, h] / math.sqrt(width)).exp()
            elif name == "linear":
                phi = [torch.where(y > 0, y + 1, y.exp()) for y in (q[i, h], k[:, h])]
                row = phi[1] @ phi[0]
            elif name == "performer":
                w, (a, b) = mixer.projection.double(), (y / width**0.25 for y in (q[i, h], k[:, h]))
                row = (b @ w.T - b.square().sum(-1, keepdim=True) / 2).exp() @ (w @ a - a @ a / 2).exp()
            else:
                w = mixer.projection.double()
                row = ((k[:, h] @ w.T).relu() + 1e-3) @ ((w @ q[i, h]).relu() + 1e-3)
            out[h, i] = row / row.sum()
    return out


@pytest.mark.parametrize("name", MIXERS)
def test_what_is_attended(name: str) -> None:
    """Beyond a block of queries, with padding of anything, beside the dense weights of each example alone."""
    _, mixer = mixer_of(name)
    x = torch.randn(2, 290, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 290, dtype=torch.bool)
    mask[1, 40:] = False
    mask[1, 3] = False
    x[~mask] = 1e3
    found = mixer.attended(x, mask)
    for row in range(2):
        dense = weights(name, mixer, x[row][mask[row]]).mean((0, 1))
        torch.testing.assert_close(found[row][mask[row]], dense, rtol=1e-6, atol=1e-9)
    assert (found[~mask] == 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.float64), rtol=1e-4, atol=0)


def slow(trainee: Any, tokens: Tensor, share: float) -> Tensor:
    """The states of one example without padding, layer by layer, with a list of those that are left."""
    model = trainee.model
    x = model.embedding(tokens) + model.positions[: len(tokens)]
    left = list(range(len(tokens)))
    for i, layer in enumerate(model.stack.layers):
        normed = layer.mixer_norm(x[left])
        score = weights("transformer", layer.mixer, normed).mean((0, 1)).tolist()
        mask = torch.ones(1, len(left), dtype=torch.bool)
        x = x.clone()
        x[left] = layer(x[left][None], mask)[0]
        if i < len(model.stack.layers) - 1:
            stay = math.ceil(len(left) * (1 - share) - 1e-9)
            best = sorted(range(len(left)), key=lambda j: -score[j])[:stay]
            left = [left[j] for j in sorted(best)]
    return model.stack.norm(x)


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_the_least_attended_go_and_nothing_else_moves(share: float) -> None:
    trainee, _ = mixer_of("transformer")
    tokens = torch.randint(1, trainee.exam.vocab_size, (3, 90), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, 41:] = False
    mask[2, 7:] = False
    twins = [slow(trainee, row[real], share) for row, real in zip(tokens, mask, strict=True)]
    after(Tokens(share), trainee)
    assert isinstance(trainee.model.stack, Fewer)
    with torch.no_grad():
        found, _ = trainee.model.through(tokens, mask)
        for row, twin in enumerate(twins):
            torch.testing.assert_close(found[row][mask[row]], twin, rtol=1e-9, atol=1e-9)
        alone, _ = trainee.model.through(tokens[2:, :7], mask[2:, :7])
    torch.testing.assert_close(found[2, :7], alone[0], rtol=1e-9, atol=1e-9)
    other = tokens.clone()
    other[~mask] = 1
    with torch.no_grad():
        found, expected = (trainee.model(each, mask)[mask] for each in (other, tokens))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_other_mixers_lose_tokens_too(name: str) -> None:
    trainee = subject(name)
    batch = batch_of(trainee)
    plain, made = answers(trainee, batch), Tokens()
    found = answers(after(made, trainee), batch)
    assert torch.isfinite(found).all() and found.shape == plain.shape and not torch.equal(found, plain)
    assert torch.equal(found, answers(trainee, batch)) and facts(made)["executed"] and facts(made)["left"] == [24, 18]
    assert counts(100, 0.25, 4) == [100, 75, 57, 43]


@pytest.mark.parametrize(
    ("model", "words", "says"),
    [
        ("fnet", (), "does not say what it attends to"),
        ("transformer", ("size.position=rotary",), "rotary"),
        ("linear", ("model.mixer.causal=true",), "causal"),
        ("transformer", ("size.depth=1",), "two layers"),
    ],
)
def test_what_it_cannot_be_done_to(model: str, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        after(Tokens(), subject(model, *words))
