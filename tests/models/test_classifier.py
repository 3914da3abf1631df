"""The classifier end to end against its equations: embedding, positions, layers, pooling, documents, heads."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from lra.models.classifier import Classifier, Intensities, pool, sinusoids
from lra.models.stack import ResidualStack
from lra.models.transformer import FullAttention
from tests.help import drawn
from tests.help.paper import (
    assert_equation,
    assert_normal,
    join,
    projected,
    residual,
    seeded,
    some_mask,
    under,
    wake,
)

VOCABULARY, CLASSES, DIM, QKV, HEADS, MLP, DEPTH, MAX_LEN = 11, 3, 10, 12, 3, 14, 2, 23
RATE, ATTENTION_RATE = 0.2, 0.35


def table(length: int, dim: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5, number by number: sin in even columns, cos in odd ones."""
    place = torch.arange(length, dtype=torch.float64)
    columns = []
    for column in range(dim):
        angle = place / 10_000 ** ((column - column % 2) / dim)
        columns.append(angle.cos() if column % 2 else angle.sin())
    return torch.stack(columns, 1)


def classify(
    w: dict[str, Tensor],
    tokens: Tensor,
    mask: Tensor,
    *,
    position: str = "none",
    pooling: str = "mean",
    documents: int = 1,
    answers: str = "sequence",
    drop: bool = False,
) -> Tensor:
    """Spec 0.3, 0.4 and 4.1; with `drop` from torch's seed, in the order in which the numbers are needed."""

    def dropped(x: Tensor, rate: float = RATE) -> Tensor:
        return drawn.dropped(x, rate) if drop else x

    def attention(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = projected(w, x, HEADS, rotary=position == "rotary")
        weights = (q @ k.mT / (QKV / HEADS) ** 0.5).masked_fill(~mask[:, None, None], -1e300).softmax(-1)
        if drop:
            weights = drawn.dropped_weights(weights, ATTENTION_RATE)
        return join(weights @ v) @ w["out.weight"].T

    def encode(tokens: Tensor, mask: Tensor) -> Tensor:
        x = w["embedding.weight"][tokens]
        if pooling == "cls":
            x = torch.cat((w["cls"].expand(len(x), 1, DIM), x), 1)
            mask = torch.cat((torch.ones(len(x), 1, dtype=torch.bool), mask), 1)
        if position == "learned":
            x = x + w["positions"][: x.shape[1]]
        elif position == "sinusoidal":
            x = x + table(x.shape[1], DIM)
        x = residual(under(w, "stack"), dropped(x), mask, attention, DEPTH, dropped)
        if answers == "token":
            return x
        if answers in ("middle", "last"):
            real = [row.nonzero().flatten().tolist() for row in mask]
            reader = [places[len(places) // 2 if answers == "middle" else -1] for places in real]
            code = table(x.shape[1], DIM).to(x)
            return torch.stack(
                [torch.stack([row[i] + each for each in code]) for row, i in zip(x, reader, strict=True)]
            )
        if pooling == "cls":
            return x[:, 0]
        rows = [row[real] for row, real in zip(x, mask, strict=True)]
        if pooling == "max":
            return torch.stack([torch.stack([max(column) for column in row.T]) for row in rows])
        return torch.stack([row[-1] if pooling == "last" else row.mean(0) for row in rows])

    if drop:
        torch.manual_seed(5)
    if documents == 1:
        f = encode(tokens, mask)
    else:
        encoded = encode(torch.cat(list(tokens)), torch.cat(list(mask)))  # a pair's two stand side by side
        u, v = encoded[0::2], encoded[1::2]
        f = torch.cat((u, v, u * v, u - v), -1)
    hidden = (f @ w["head.0.weight"].T + w["head.0.bias"]).relu()
    return hidden @ w["head.2.weight"].T + w["head.2.bias"]


def made(**options) -> Classifier:
    torch.manual_seed(0)
    sizes = {"depth": DEPTH, "dim": DIM, "heads": HEADS, "mlp_dim": MLP, "qkv_dim": QKV}
    model = Classifier(VOCABULARY, CLASSES, MAX_LEN, FullAttention, ResidualStack, **sizes, **options)
    wake(model)
    return model


def asked(documents: int, seed: int, length: int = MAX_LEN) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = some_mask(4 if documents == 2 else 3, length, seed)
    tokens = torch.randint(VOCABULARY, mask.shape, generator=generator)
    return tuple(t.unflatten(0, (2, 2)) if documents == 2 else t for t in (tokens, mask))


@pytest.mark.parametrize("documents", [1, 2])
@pytest.mark.parametrize(
    ("position", "pooling"), list(product(("learned", "sinusoidal", "rotary", "none"), ("cls", "mean", "last", "max")))
)
def test_equals_the_equations(position: str, pooling: str, documents: int) -> None:
    options = {"position": position, "pooling": pooling, "documents": documents}
    model = made(**options).eval()
    for seed in range(3):
        slow = partial(classify, **options)
        assert_equation(model, slow, *asked(documents, seed, MAX_LEN - 4 * seed), double=1e-10, single=5e-5)


def test_nothing_real_pools_to_zeros() -> None:
    x, mask = torch.randn(2, 3, DIM), torch.tensor([[False] * 3, [True] * 3])
    for how in ("mean", "max"):
        assert not pool(x, mask, how)[0].any() and pool(x, mask, how)[1].all()


@pytest.mark.parametrize("answers", ["token", "middle", "last"])
def test_answers_at_positions_equal_the_equations(answers: str) -> None:
    model = made(position="learned", answers=answers).eval()
    slow = partial(classify, position="learned", answers=answers)
    for seed in range(3):
        assert_equation(model, slow, *asked(1, seed), double=1e-10, single=5e-5)


@pytest.mark.parametrize(("pooling", "documents", "checkpoint"), [("cls", 1, False), ("mean", 2, True)])
def test_dropout_falls_on_embedding_weights_and_residuals(pooling: str, documents: int, checkpoint: bool) -> None:
    """Every place and rate of it at once, by the numbers of the seed; in eval() there is none (above)."""
    options = {"position": "learned", "pooling": pooling, "documents": documents}
    model = seeded(made(dropout=RATE, attention_dropout=ATTENTION_RATE, checkpoint=checkpoint, **options))
    slow = partial(classify, drop=True, **options)
    assert_equation(model, slow, *asked(documents, 1), double=1e-10, single=None)
    assert_equation(model.eval(), partial(classify, **options), *asked(documents, 1), double=1e-10, single=5e-5)


def test_dropout_has_the_defaults_of_the_suite() -> None:
    model = made()
    assert model.dropout.p == 0.1 and model.stack.layers[0].mixer.dropout == 0.1
    assert model.stack.layers[1].dropout.p == 0.1 and model.stack.layers[1].mlp.dropout.p == 0.1
    assert model.stack.layers[1].mlp.inner_dropout.p == 0.1


@pytest.mark.parametrize("dim", [10, 7])
def test_sinusoids(dim: int) -> None:
    torch.testing.assert_close(sinusoids(40, dim, torch.float64), table(40, dim), rtol=0, atol=1e-12)
    assert sinusoids(40, dim, torch.bfloat16).dtype == torch.float32


def test_sinusoids_have_the_rounding_of_the_models_type_and_no_end() -> None:
    """The table follows the model through conversions, and a longer input than it was made for has a longer one."""
    model = made(position="sinusoidal").bfloat16().double().eval()
    torch.testing.assert_close(model.positions, table(MAX_LEN, DIM), rtol=0, atol=1e-12)
    assert "positions" not in model.state_dict()
    slow = partial(classify, position="sinusoidal")
    assert_equation(model, slow, *asked(1, 1, 40), double=1e-10, single=None)
    assert model.float().positions.dtype == torch.float32
    assert torch.equal(model.positions, made(position="sinusoidal").positions)


def test_pixels_are_numbers() -> None:
    """Token i + 1 is the intensity i: normed, times a vector, plus a vector, in place of a word's."""
    model = made(pixels=[0.48, 0.24])
    wake(model)
    tokens = torch.tensor([[1, 2, 129, 256]])
    x = ((tokens.double() - 1) / 255 - 0.48) / 0.24
    exact = x[..., None] * model.embedding.weight.double() + model.embedding.bias.double()
    torch.testing.assert_close(model.embedding(tokens).double(), exact, rtol=1e-5, atol=1e-6)
    assert model.embedding.bfloat16()(tokens).dtype == torch.bfloat16
    torch.manual_seed(0)
    start = Intensities(4000, 0.5, 0.5, 0.2)
    assert_normal(start.weight, 0.2)
    assert_normal(start.bias, 0.02)
    for wrong in ([0.5], [0.5, 0.0]):
        with pytest.raises(ValueError, match=r"model.pixels: \[0.5.*\] is not a mean and a deviation above 0"):
            made(pixels=wrong)


def test_learned_positions_end() -> None:
    for pooling in ("mean", "cls"):
        model = made(position="learned", pooling=pooling)
        assert len(model.positions) == MAX_LEN + (pooling == "cls")
        with pytest.raises(ValueError, match=f"length {MAX_LEN + 1} is above the {MAX_LEN} positions"):
            model(*asked(1, 0, MAX_LEN + 1))


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    sizes = {"depth": 1, "dim": 64, "heads": 2, "mlp_dim": 8}
    for std in (1.0, 0.02):
        model = Classifier(90, 3, 70, FullAttention, ResidualStack, **sizes, pooling="cls", embedding_std=std)
        assert_normal(model.embedding.weight, std)
        assert_normal(model.positions, 0.02)
        assert not model.cls.any()
    assert_normal(Classifier(90, 3, 70, FullAttention, ResidualStack, **sizes).embedding.weight, 1.0)


def test_a_mixer_is_told_the_facts() -> None:
    told = []

    def mixer(
        dim: int,
        heads: int,
        qkv_dim: int,
        max_len: int,
        dropout: float,
        rotary: bool,
        layer: int,
        depth: int,
        shared: dict,
    ) -> FullAttention:
        told.append((dim, heads, qkv_dim, max_len, dropout, rotary, layer, depth, shared))
        return FullAttention(dim, heads, max_len, qkv_dim)

    sizes = {"depth": DEPTH, "dim": DIM, "heads": HEADS, "mlp_dim": MLP, "qkv_dim": QKV, "attention_dropout": 0.4}
    for pooling, more in (("mean", 0), ("cls", 1)):
        Classifier(VOCABULARY, CLASSES, 9, mixer, ResidualStack, **sizes, position="rotary", pooling=pooling)
        assert told == [(DIM, HEADS, QKV, 9 + more, 0.4, True, n, DEPTH, {}) for n in range(DEPTH)]
        told.clear()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position": "absolute"}, r"model\.position: 'absolute' is not one of learned, "),
        ({"pooling": "sum"}, r"model\.pooling: 'sum' is not one of cls, mean, last, max, pma"),
        ({"documents": 3}, "documents: 3 is not 1 or 2"),
        ({"answers": "span"}, "answers: 'span' is not one of sequence, token, middle, last"),
        ({"answers": "middle", "pooling": "cls"}, "answers: at positions"),
        ({"answers": "token", "pooling": "cls"}, "answers: at positions"),
        ({"answers": "token", "documents": 2}, "answers: at positions"),
    ],
)
def test_bad_options_are_named(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(**options)
