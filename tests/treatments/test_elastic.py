"""One network of many sizes: each against the same network written out by hand, what is sorted, and what is trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lra.tasks.base import NOT_ASKED
from lra.treatments import after, facts
from lra.treatments.cut import Cut
from lra.treatments.elastic import DEPTHS, STAGES, WIDTHS, Elastic, Turns, rewired
from lra.treatments.importance import importance
from lra.treatments.prefix import Prefix, Size, cut, kept
from lra.treatments.relations import soft
from tests.treatments.test_options import answers, batch_of, option, subject
from tests.treatments.test_quantised import TINY, TrainAlone

FEATURES = 32  # of a Performer: as many as channels, which are no rows of heads


def softmax(q: Tensor, k: Tensor, v: Tensor, _: Any) -> Tensor:
    return (q @ k.T / math.sqrt(q.shape[1])).softmax(-1) @ v


def linear(q: Tensor, k: Tensor, v: Tensor, _: Any) -> Tensor:
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).T
    return weights @ v / (weights.sum(1, keepdim=True) + 1e-6)


def favor(q: Tensor, k: Tensor, v: Tensor, mixer: Any) -> Tensor:
    w = mixer.projection.double()
    q, k = (torch.exp(y @ w.T - y.square().sum(1, keepdim=True) / 2) for y in (x / q.shape[1] ** 0.25 for x in (q, k)))
    return q @ k.T @ v / (q @ k.T).sum(1, keepdim=True)


def cosine(q: Tensor, k: Tensor, v: Tensor, _: Any) -> Tensor:
    place = torch.arange(1.0, len(q) + 1).double()
    weights = q.relu() @ k.relu().T * torch.cos(math.pi / 2 * (place[:, None] - place) / len(q))
    return weights @ v / weights.sum(1, keepdim=True).clamp(min=1e-6)


MIXERS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "transformer": (softmax, ()),
    "linear": (linear, ()),
    "performer": (favor, (f"model.mixer.features={FEATURES}",)),
    "cosformer": (cosine, ()),
}


def big(model: str, *words: str) -> Any:
    """Five layers in float64, none of whose parameters is zero."""
    trainee = subject(model, "size.depth=5", *words)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainee.model.double().parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return trainee


def by_hand(model: Any, name: str, batch: Any, heads: int, few: int, layers: Sequence[int]) -> list[Tensor]:
    """The answers of the network of these layers, first heads and first neurons, an example at a time without padding,
    head by head, from the weights of the whole one."""
    w, attend, out = dict(model.named_parameters()), MIXERS[name][0], []
    norm = lambda x, at: F.layer_norm(x, x.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"], 1e-6)  # noqa: E731
    for tokens, mask in zip(batch.tokens, batch.mask, strict=True):
        x = w["embedding.weight"][tokens[mask]] + w["positions"][: int(mask.sum())]
        for i in layers:
            at, mixer = f"stack.layers.{i}", model.stack.layers[i].mixer
            n, width, mixed = norm(x, f"{at}.mixer_norm"), mixer.head_dim, torch.zeros_like(x)
            for h in range(heads):
                rows = slice(h * width, (h + 1) * width)
                q, k, v = (n @ w[f"{at}.mixer.{part}.weight"][rows].T for part in ("query", "key", "value"))
                mixed = mixed + attend(q, k, v, mixer) @ w[f"{at}.mixer.out.weight"][:, rows].T
            x = x + mixed
            n, inner, outer = norm(x, f"{at}.mlp_norm"), f"{at}.mlp.inner", f"{at}.mlp.outer"
            fire = F.gelu(n @ w[f"{inner}.weight"][:few].T + w[f"{inner}.bias"][:few], approximate="tanh")
            x = x + fire @ w[f"{outer}.weight"][:, :few].T + w[f"{outer}.bias"]
        x = (norm(x, "stack.norm") @ w["head.0.weight"].T + w["head.0.bias"]).relu()
        out.append(x @ w["head.2.weight"].T + w["head.2.bias"])
    return out


@pytest.mark.parametrize("name", MIXERS)
def test_sorted_it_answers_as_before_and_every_size_is_the_same_network_cut_out_by_hand(name: str) -> None:
    """What a size answers, by itself and where it is trained, and what the whole learns of it."""
    trainee = big(name, *MIXERS[name][1])
    before, batch = copy.deepcopy(trainee.model), batch_of(trainee)
    order = rewired(trainee, 2)
    off = (answers_of(trainee.model, batch) - answers_of(before, batch))[batch.mask].abs().max()
    assert 0 < off <= 1e-10 * answers_of(before, batch).abs().max()
    assert any(heads != sorted(heads) for heads in order)
    groups = {}
    for i, layer in enumerate(trainee.model.stack.layers):
        groups[f"heads {i}"], groups[f"neurons {i}"] = (layer.mixer.out, 4), (layer.mlp.outer, 48)
        query, old = (m.stack.layers[i].mixer.query.weight.unflatten(0, (4, -1)) for m in (trainee.model, before))
        assert torch.equal(query, old[order[i]])
    assert all((score.diff() <= 1e-9).all() for score in importance(trainee, groups, 2).values())
    same_by_hand(trainee, name, batch, Size(0.75, 0.75), 3, 36, [0, 1, 2, 4])
    same_by_hand(trainee, name, batch, Size(0.01, 0.4), 1, 1, [0, 2])


def same_by_hand(trainee: Any, name: str, batch: Any, size: Size, heads: int, few: int, layers: list[int]) -> None:
    whole = trainee.model
    slow = by_hand(whole, name, batch, heads, few, layers)
    draw = torch.Generator().manual_seed(2)
    back = [torch.randn(y.shape, generator=draw, dtype=torch.float64) for y in slow]
    sum((y * b).sum() for y, b in zip(slow, back, strict=True)).backward()
    grads = {n: p.grad for n, p in whole.named_parameters()}
    whole.zero_grad()
    form = cut(trainee, size)
    apart, found = answers_of(form, batch), Prefix(whole, form, size, True)(batch.tokens, batch.mask)
    sum((y[m] * b).sum() for y, m, b in zip(found, batch.mask, back, strict=True)).backward()
    for y, z, expected, mask in zip(found, apart, slow, batch.mask, strict=True):
        assert (y[mask] - expected).abs().max() < 1e-9 * expected.abs().max()
        assert (z[mask] - expected).abs().max() < 1e-9 * expected.abs().max()
    for n, p in whole.named_parameters():
        assert (p.grad is None) == (grads[n] is None), n
        if p.grad is not None:
            assert (p.grad - grads[n]).abs().max() <= 1e-8 * grads[n].abs().max(), n
    whole.zero_grad()


def answers_of(model: Any, batch: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(batch.tokens, batch.mask)


def test_layers_are_kept_as_dynabert_keeps_them() -> None:
    assert kept(12, 0.5) == [0, 2, 4, 6, 8, 10] and kept(12, 0.75) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert kept(6, 0.75) == [0, 1, 2, 4] and kept(6, 0.5) == [0, 2, 4]
    for layers in range(1, 20):
        for depth in (0.01, 1 / 3, 0.5, 0.7, 0.9, 1.0):
            found = kept(layers, depth)
            assert found == sorted(set(found)) and found[0] == 0 and found[-1] < layers
        assert found == list(range(layers))


def test_the_whole_of_it_is_the_model_itself() -> None:
    trainee = subject("transformer")
    batch = batch_of(trainee)
    plain = answers(trainee, batch)
    assert torch.equal(answers(after(option("cut"), trainee), batch), plain)


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("fnet", (), "has no heads"),
        ("mamba2", (), "has no heads"),
        ("gla", (), "has no heads"),
        ("retnet", (), "is not what its heads make it"),  # each has a decay by its number
        ("transformer", ("model.mixer.conv_kernel=3",), "is not what its heads make it"),
        ("transformer", ("model.stack.ffn=switch",), "no feed-forward layer"),
    ],
)
def test_a_mixer_without_prefixes_is_refused_in_one_line(model: str, words: tuple[str, ...], said: str) -> None:
    trainee = subject(model, *words)
    for made in (Elastic(1, examples=1), Cut(0.5)):
        if (model, type(made)) == ("retnet", Cut):
            continue  # its first heads are a RetNet, and in another order they are none
        with pytest.raises(ValueError, match=said) as caught:
            after(made, trainee)
        assert "\n" not in str(caught.value) and "prefix" in str(caught.value)


def test_values_that_are_no_share_are_refused() -> None:
    for words, field in (("width=0", "width"), ("depth=1.5", "depth"), ("width=true", "width")):
        with pytest.raises(Exception, match=rf"treatment\.{field}"):
            option(f"cut treatment.{words}")


def test_training_is_of_the_train_split_by_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was drawn before is of no matter, and features that are drawn anew go on from where they stood."""
    for name, (sizes, *rest) in STAGES.items():
        monkeypatch.setitem(STAGES, name, (sizes[:2], *rest))
    weights = []
    for seed in (0, 1):
        trainee = subject("performer", *TINY, "size.dropout=0.1", "model.mixer.redraw=10")
        for module in trainee.drawing:
            if hasattr(module, "at_step"):
                module.at_step(9)
        mixer = trainee.model.stack.layers[0].mixer
        features = mixer.projection.clone()
        trainee.exam = TrainAlone(trainee.exam)
        torch.manual_seed(seed)
        made = Elastic(steps=3, examples=2)
        after(made, trainee)
        now = trainee.model.stack.layers[0].mixer
        assert not torch.equal(now.projection, features) and int(now.steps) == 13
        weights.append(torch.cat([p.detach().flatten() for p in trainee.model.parameters()]))
        first, second = (np.concatenate(part) for part in (trainee.exam.shown[-6:-3], trainee.exam.shown[-3:]))
        assert not np.array_equal(first, second), "each stage has batches of its own"
    assert torch.equal(*weights)
    assert {name: spent["steps"] for name, spent in facts(made)["training"].items()} == {"width": 3, "depth": 3}


def turns(stage: str, trainee: Any, every: int = 1) -> Turns:
    sizes, teacher, weight = STAGES[stage]
    return Turns(trainee, sizes[::every], teacher, weight, 0)


def test_sizes_come_in_rounds_of_all() -> None:
    trainee = subject("linear")

    def drawn() -> list[list[int]]:
        made, found = turns("width", trainee), []
        for number in range(24):
            own = type("", (), {})()
            made(own, number)
            found.append(made.taught.index(own.exam))
        return [found[i : i + 4] for i in range(0, 24, 4)]

    rounds = drawn()
    assert all(sorted(each) == list(range(4)) for each in rounds) and len({tuple(each) for each in rounds}) > 2
    assert drawn() == rounds
    trainee.seed = 5
    assert drawn() != rounds


def test_each_size_is_taught_by_its_teacher() -> None:
    """The loss against its definition; the teacher stays when the student learns: of a depth it has the same width."""
    for stage, weight, every in (("width", 0.1, 3), ("depth", 1.0, 7)):
        trainee = big("linear")
        batch, made = batch_of(trainee), turns(stage, trainee, every)
        batch.labels[~batch.mask] = NOT_ASKED
        batch.labels[0, 3:9] = NOT_ASKED
        before = copy.deepcopy(trainee.model)
        for parameter in trainee.model.parameters():
            parameter.data *= 1.1
        for size, taught in zip(STAGES[stage][0][::every], made.taught, strict=True):
            wide = copy.copy(trainee)
            wide.model = before
            own, theirs = cut(trainee, size), cut(wide, Size(1.0 if stage == "width" else size.width, 1.0))
            slow = apart(own.eval(), theirs.eval(), batch, kept(5, size.depth), weight)
            found = float(taught.loss(taught.student(batch.tokens, batch.mask), batch).detach())
            assert abs(found - slow) < 1e-9 * slow, (stage, size)
    assert len(STAGES["width"][0]) == len(WIDTHS) and len(STAGES["depth"][0]) == len(WIDTHS) * len(DEPTHS)


def seen_by(model: Any, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Of one example: logits (L, C), and what each layer and the last norm are given (L, D)."""
    states: list[Tensor] = []
    modules = [*model.stack.layers, model.stack.norm]
    hooks = [m.register_forward_pre_hook(lambda _, given: states.append(given[0][0])) for m in modules]
    with torch.no_grad():
        logits = model(tokens[None], torch.ones_like(tokens[None], dtype=torch.bool))[0]
    for hook in hooks:
        hook.remove()
    return logits, states


def apart(own: Any, theirs: Any, batch: Any, layers: list[int], weight: float) -> float:
    """Of each example by itself, in numpy."""
    answer, state = [], []
    for tokens, mask, labels in zip(batch.tokens, batch.mask, batch.labels, strict=True):
        (ours, x), (told, y) = (seen_by(model, tokens[mask]) for model in (own, theirs))
        p, q = (np.exp(z.numpy()) / np.exp(z.numpy()).sum(1, keepdims=True) for z in (told, ours))
        answer += (p * np.log(p / q)).sum(1)[labels[mask].numpy() != NOT_ASKED].tolist()
        pairs = [(x[i].numpy(), y[j].numpy()) for i, j in enumerate([*layers, -1])]
        normed = [[(z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-6) for z in p] for p in pairs]
        state += sum(((a - b) ** 2).mean(1) for a, b in normed).tolist()
    return np.mean(answer) + weight * np.mean(state)


def test_what_is_small_comes_nearer_to_the_whole() -> None:
    teacher = subject("linear", *TINY)
    teacher.model.head[2].weight.data *= 5  # so that its answers differ
    batch = batch_of(teacher)

    def off(steps: int) -> float:
        trainee = copy.deepcopy(teacher)
        after(Elastic(steps, 1e-3, examples=2), trainee)
        told, ours = (answers_of(m, batch)[batch.mask] for m in (teacher.model, cut(trainee, Size(0.25, 0.5))))
        return float(soft(told, ours, 1.0).mean())

    assert off(16) < 0.7 * off(0)
