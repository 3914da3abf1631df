"""What is drawn in training: a function of (seed, step, module, example, place), and by the law of dropout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from lra.models.parts.chance import Chance, Dropout, keys_of, mixed, scale, tell, threshold
from lra.models.performer import Performer
from lra.models.reformer import LSHAttention
from tests.help import drawn

RATE = 0.3


def two(p: float = RATE) -> nn.Module:
    return nn.ModuleList([Dropout(p), nn.Sequential(nn.Linear(2, 2), Dropout(p))]).train()


def kept(layer: Dropout, *shape: int, first: int = 0) -> Tensor:
    """0 or 1, from what the layer makes of ones."""
    y = layer(torch.ones(shape, dtype=torch.float64), first)
    assert set(y.unique().tolist()) <= {0.0, scale(layer.p)}
    return (y > 0).double()


def told(seed: int = 1, step: int = 0, examples: int = 8, shape: tuple[int, ...] = (40, 50), which: int = 0) -> Tensor:
    model = two()
    tell(model, seed, step, torch.arange(examples))
    layer = model[0] if which == 0 else model[1][1]
    return kept(layer, examples, *shape)


def test_the_hash_is_that_of_the_paper() -> None:
    """In whole numbers of Python, which know no sign and no size."""
    for z in (0, 1, 12345, 2**62 + 17, 2**64 - 1):
        x = z
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> shift)) * factor % 2**64
        x ^= x >> 31
        signed = torch.tensor(z - 2**64 if z >> 63 else z)
        assert int(mixed(signed)) % 2**64 == x
        assert int(keys_of(signed, 3)[1]) == int(
            mixed(torch.tensor((z + 2 * 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63))
        )


def test_the_rate() -> None:
    for rate in (0.0, 0.1, 0.5, 0.999, 1 - 1e-12):
        share = (threshold(rate) + 2**31) / 2**32
        assert abs(share - rate) <= 2**-32 and share < 1
        assert scale(rate) == 1 / (1 - share)
    for rate in (0.02, 0.1, 0.5, 0.97):
        found = kept(tell_one(Dropout(rate)), 16, 100, 250)
        for axes in ((0, 1, 2), (1, 2), (0, 2), (0, 1), (2,), (1,), (0,)):
            share = found.mean(axes)
            spread = (rate * (1 - rate) / (found.numel() / share.numel())) ** 0.5
            assert ((share - (1 - rate)).abs() < 6 * spread + 1e-12).all() or found.numel() / share.numel() < 50
            # Rows and columns scatter as they must, no less and no more.
            if share.numel() >= 100:
                assert 0.6 < (share - (1 - rate)).square().mean().item() / spread**2 < 1.6, (rate, axes)


def tell_one(layer: Dropout) -> Dropout:
    tell(layer.train(), 5, 3, torch.arange(16))
    return layer


def independent(a: Tensor, b: Tensor) -> bool:
    """0 or 1 in two places of equal shape: not more alike, nor less, than chance has it."""
    x, y = ((t - (1 - RATE)) / (RATE * (1 - RATE)) ** 0.5 for t in (a, b))
    return abs((x * y).mean().item()) < 5 / a.numel() ** 0.5


def test_tied_positions_drop_the_same_channels() -> None:
    """Whole channels of an example, at the rate, whatever the length; the same as a length of one draws, untied."""
    layer = Dropout(0.3, tied=True)
    found = kept(tell_one(layer), 16, 100, 250)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert torch.equal(kept(layer, 16, 7, 250, first=5), found[:, :7])
    assert abs(found[:, 0].mean() - 0.7) < 6 * (0.21 / 4000) ** 0.5
    assert not torch.equal(found[0], found[1])
    x = torch.randn(16, 5, 250, requires_grad=True)
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient.double(), found[:, :5] * scale(0.3))


def test_other_keys_draw_independently() -> None:
    base = told()
    for other in (told(seed=2), told(step=1), told(which=1), told(seed=0, step=1), told(step=2**40)):
        assert independent(base, other)
    for i, j in combinations(range(8), 2):
        assert independent(base[i], base[j]), "examples"
    for shift in (1, 2, 3, 4, 7, 8, 16):
        assert independent(base[:, shift:], base[:, :-shift]), "positions"
        assert independent(base[..., shift:], base[..., :-shift]), "columns"
    deep = told(shape=(5, 4, 60))
    for i, j in combinations(range(4), 2):
        assert independent(deep[:, :, i], deep[:, :, j]), "what lies between the length and the width"


def test_no_four_corners_hang_together() -> None:
    """Each number is a product of a row's and a column's; of that nothing may be seen in rectangles or triples."""
    x = (told(examples=24, shape=(64, 64)) - (1 - RATE)) / (RATE * (1 - RATE)) ** 0.5
    for row, column in ((1, 1), (2, 1), (1, 5), (16, 32)):
        corners = x[:, :-row, :-column] * x[:, row:, :-column] * x[:, :-row, column:] * x[:, row:, column:]
        assert abs(corners.mean().item()) < 5 / corners.numel() ** 0.5
    for y in (x, x.mT):
        triples = y[..., :-3] * y[..., 1:-2] * y[..., 3:]
        assert abs(triples.mean().item()) < 5 / triples.numel() ** 0.5
        gram = y @ y.mT / y.shape[-1]
        gram -= torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
        assert gram.abs().max() < 6 / y.shape[-1] ** 0.5
        # Whole rows that are alike or opposite would show here and nowhere else.
        expected = (64 * 63 / 64) / 64**2
        assert abs(gram.square().mean().item() / expected - 1) < 0.1


@pytest.mark.parametrize("rows_each", [1, 2])
def test_an_example_draws_the_same_in_any_part_and_order_and_length(rows_each: int) -> None:
    model = two()

    def drawn(examples: list[int], length: int) -> Tensor:
        tell(model, 9, 4, torch.tensor(examples))
        return kept(model[1][1], rows_each * len(examples), length, 6).unflatten(0, (-1, rows_each))

    whole = drawn([0, 1, 2, 3, 4, 5], 33)
    if rows_each == 2:
        assert independent(whole[:, 0], whole[:, 1]), "the two documents of a pair"
    for examples in ([2], [5, 0], [3, 2, 1], [5, 4, 3, 2, 1, 0]):
        for length in (1, 20, 33):
            assert torch.equal(drawn(examples, length), whole[examples][:, :, :length])


def test_a_part_of_the_length_draws_its_own() -> None:
    layer = tell_one(Dropout(RATE))
    whole = kept(layer, 16, 30, 7)
    parts = [kept(layer, 16, 12, 7), kept(layer, 16, 18, 7, first=12)]
    assert torch.equal(torch.cat(parts, 1), whole)
    flat = kept(layer, 16, 7)
    assert flat.shape == (16, 7) and 0 < flat.mean() < 1


def test_the_gradient_is_that_of_what_was_kept() -> None:
    layer = tell_one(Dropout(RATE).double())
    x = torch.randn(16, 9, 5, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    keep = kept(layer, 16, 9, 5) * scale(RATE)
    assert torch.equal(y, x * keep)
    (dx,) = torch.autograd.grad(y, x, torch.full_like(y, 2.0))
    assert torch.equal(dx, 2 * keep)
    assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    x = torch.randn(3, 4, 5)
    state = torch.get_rng_state()
    assert Dropout(RATE).eval()(x) is x and Dropout(0.0).train()(x) is x
    assert torch.equal(state, torch.get_rng_state())
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"^dropout: {p} is not in \[0, 1\)$"):
            Dropout(p)


def test_who_is_not_told_draws_from_torch_at_each_call() -> None:
    model = two()

    def call() -> Tensor:
        return kept(model[0], 4, 30, 20)

    torch.manual_seed(1)
    first, second = call(), call()
    assert independent(first, second) and independent(first[0], first[1])
    torch.manual_seed(1)
    assert torch.equal(call(), first)
    tell(model, 0, 0, torch.arange(4))
    assert torch.equal(call(), call()), "told, it is a function"
    for mode in (True, False):
        tell(model, 0, 0, torch.arange(4))
        model.train(mode)
        model.train()
        assert not torch.equal(call(), call()), "train() and eval() end it"


def test_tell_leaves_nothing_in_the_state_and_goes_with_copies_and_types() -> None:
    model = two()
    keys = set(model.state_dict())
    state = torch.get_rng_state()
    tell(model, 3, 1, torch.arange(4))
    assert torch.equal(state, torch.get_rng_state()), "tell draws nothing"
    assert set(model.state_dict()) == keys == {"1.0.weight", "1.0.bias"}
    expected = kept(model[0], 4, 6, 5)
    for other in (copy.deepcopy(model), copy.deepcopy(model).double(), copy.deepcopy(model).to("cpu")):
        assert torch.equal(kept(other[0], 4, 6, 5), expected)
    for dtype in (torch.float32, torch.bfloat16):
        y = model[0](torch.ones(4, 6, 5, dtype=dtype))
        assert y.dtype == dtype and torch.equal(y > 0, expected > 0)
    assert model[0](torch.ones(4, 6, 5, device="meta")).shape == (4, 6, 5)


def test_numbers_are_those_of_the_description() -> None:
    """One by one, in whole numbers: keys, streams, places and the product of a row and a column."""
    model = two()
    tell(model, 11, 3, torch.tensor([4, 2]))
    found = kept(model[1][1], 2, 5, 6)
    for i, example in enumerate((4, 2)):
        row, column = (drawn.under(drawn.told(11, 3, 1, example), side) for side in (0, 1))
        exact = drawn.kept([drawn.under(row, i) for i in range(5)], [drawn.under(column, i) for i in range(6)], RATE)
        assert torch.equal(found[i], torch.tensor(exact))
    torch.manual_seed(3)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = Dropout(RATE).train()(x)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(2, 3, 4, 5, dtype=torch.float64), x)
    torch.testing.assert_close(y, drawn.dropped(x, RATE))


def test_uniform_numbers_by_their_law() -> None:
    chance = Chance()
    for dtype in (torch.float32, torch.float64):
        u = chance.uniform(torch.empty(8, 3, 40, 50, dtype=dtype))
        assert u.dtype == dtype and u.min() > 0 and u.max() < 1
        steps = u.double().flatten().sort().values
        assert (steps - torch.arange(len(steps)) / len(steps)).abs().max() < 2 / len(steps) ** 0.5
        centred = (u.double() - 0.5) * 12**0.5
        for axis in range(4):
            a, b = centred.narrow(axis, 0, u.shape[axis] - 1), centred.narrow(axis, 1, u.shape[axis] - 1)
            assert abs((a * b).mean().item()) < 5 / a.numel() ** 0.5
    tell(chance, 1, 1, torch.arange(3))
    small, large = (chance.uniform(torch.empty(3, 2, n, n)) for n in (4, 9))
    assert torch.equal(large[:, :, :4, :4], small)


def test_what_cannot_be_told() -> None:
    model = two()
    for step, examples, words in (
        (-1, torch.arange(2), "step: -1 is not 0 or more"),
        (0, torch.zeros(2), r"examples: torch.float32 \(2,\) is not int64 \(B,\)"),
        (0, torch.zeros(2, 1, dtype=torch.int64), r"examples: torch.int64 \(2, 1\) is not int64 \(B,\)"),
        (0, torch.zeros(0, dtype=torch.int64), r"examples: torch.int64 \(0,\) is not int64 \(B,\)"),
    ):
        with pytest.raises(ValueError, match=f"^{words}$"):
            tell(model, 0, step, examples)
    tell(model, 0, 0, torch.arange(3))
    with pytest.raises(ValueError, match="^tell: 3 examples were told of, which 4 rows do not divide into$"):
        model[0](torch.ones(4, 2))
    tell(nn.Linear(2, 2), 0, 0, torch.arange(3))  # a model in which nothing is drawn


@pytest.mark.parametrize("build", [partial(Performer, features=8), partial(LSHAttention, chunk=4)])
def test_what_is_redrawn_counts_the_steps_that_it_is_told_of(build: Callable[..., nn.Module]) -> None:
    """And not the parts of a batch, nor their backward passes; the draws are those of one pass a step."""

    def made() -> nn.Module:
        torch.manual_seed(5)
        return build(16, 2, 8, redraw=2)

    def passes(model: nn.Module, times: int) -> None:
        for _ in range(times):
            model(torch.ones(1, 8, 16, requires_grad=True), torch.ones(1, 8, dtype=torch.bool)).sum().backward()

    def state(model: nn.Module) -> list[Tensor]:
        return [value.clone() for key, value in model.state_dict().items() if key in ("projection", "rotations")]

    once, told_of, resumed = made(), made(), made()
    for step in range(5):
        tell(told_of, 0, step, torch.arange(1))
        assert int(told_of.steps) == step and all(map(torch.equal, state(told_of), state(once))), step
        passes(told_of, 3)
        passes(once, 1)
    resumed.load_state_dict(told_of.state_dict())
    for step in (5, 6):
        for model in (resumed, told_of):
            tell(model, 0, step, torch.arange(1))
        assert all(map(torch.equal, state(resumed), state(told_of)))
    assert not all(map(torch.equal, state(made()), state(told_of)))
    tell(told_of, 0, 0, torch.arange(1))
    assert all(map(torch.equal, state(made()), state(told_of))), "a step that is gone back to"
    told_of.train()
    passes(told_of, 2)
    assert int(told_of.steps) == 2, "who is told no more counts backward passes"
    never = build(16, 2, 8)
    tell(never, 0, 7, torch.arange(1))
    assert int(never.steps) == 0


def test_one_graph_serves_every_step() -> None:
    model = two()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    run = torch.compile(lambda x: model[1](model[0](x)), fullgraph=True, backend=backend)
    x = torch.randn(4, 6, 2, requires_grad=True)
    for step in range(4):
        tell(model, 1, step, torch.arange(4) + step)
        y = run(x)
        tell(model, 1, step, torch.arange(4) + step)
        assert torch.equal(y, model[1](model[0](x)))
        y.sum().backward()
    assert len(graphs) == 1


def test_a_stream_is_a_module_and_no_more() -> None:
    chance = Chance()
    assert not list(chance.parameters()) and not chance.state_dict()
    assert len(chance.keys(5, torch.device("cpu")).unique()) == 5
