"""Twin grids, and grids that are searched for by what they do to a product, against slow float64 twins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lra.models import transformer
from lra.treatments import after, examples, facts, ptq4vit, searched
from lra.treatments.ptq4vit import Held, Ptq4Vit, softmaxes
from tests.treatments.test_options import answers, batch_of, option, subject
from tests.treatments.test_ranges import slow_onto

TINY = ("task.max_len=12", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=20", "size.heads=2", "size.depth=1")
MIXER = "stack.layers.0.mixer"


def onto(x: np.ndarray, end: float, bits: int) -> np.ndarray:
    n = 2 ** (bits - 1) - 1
    return np.clip(np.rint(x / (end / n)), -n, n) * (end / n) if end else np.zeros_like(x)


def slow_softmax(x: np.ndarray, m: float, bits: int) -> np.ndarray:
    return np.where(x < 2.0**-m, onto(x, 2.0**-m, bits), onto(x, 1.0, bits))


def slow_gelu(x: np.ndarray, end: float, bits: int) -> np.ndarray:
    return np.where(x < 0, onto(x, 0.1701, bits), onto(x, end, bits))


def test_twin_grids_one_number_at_a_time() -> None:
    draw = np.random.default_rng(0)
    x = draw.exponential(0.05, 300).clip(max=1)
    for bits, m in ((3, 0), (4, 5), (8, 19)):
        slow = [slow_onto(v, 2.0**-m if v < 2.0**-m else 1.0, bits) for v in x]
        found = searched.twin_softmax(torch.tensor(x), torch.tensor(float(m)), bits)
        assert np.allclose(found, slow, atol=1e-12)
    x = F.gelu(torch.tensor(draw.normal(0, 2, 300)))
    slow = [slow_onto(v, 0.1701 if v < 0 else 2.0, 4) for v in x.tolist()]
    assert np.allclose(searched.twin_gelu(x, torch.tensor(2.0), 4), slow, atol=1e-12)
    least = F.gelu(torch.linspace(-1, -0.5, 1000), approximate="tanh").min()
    assert -searched.GELU_LEAST < least < -0.17, "nothing is clipped"


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 and b.std() > 1e-9 else 0.0


def ranked(a: np.ndarray, b: np.ndarray, seen: np.ndarray, pairs: np.ndarray) -> list[float]:
    lost = []
    for i, row in enumerate(pairs):
        for j, k in row:
            if seen[i, j] and seen[i, k]:
                lost.append(max(0.0, 0.1 - (b[i, j] - b[i, k]) * np.sign(a[i, j] - a[i, k])))
    return lost


def slow_search(a: list, b: list, tried: tuple, kinds: tuple, bits: int, cost: Any) -> tuple[float, float]:
    """Of one group: all there are of b with a held, then of a with b held, and once more until nothing changes."""
    chosen = [tried[0][0], tried[1][0]]
    for _ in range(3):
        before = list(chosen)
        for mine in (1, 0):
            costs = []
            for end in tried[mine]:
                ends = [end if mine == i else chosen[i] for i in (0, 1)]
                costs.append(
                    cost([kinds[0](x, ends[0], bits) @ kinds[1](y, ends[1], bits) for x, y in zip(a, b, strict=True)])
                )
            chosen[mine] = next(t for t, c in zip(tried[mine], costs, strict=True) if c <= min(costs) + 1e-9)
        if chosen == before:
            break
    return chosen[0], chosen[1]


def held_of(*words: str) -> tuple[Any, Held]:
    trainee = subject("transformer", *TINY, *words)
    trainee.model.double()
    for p in trainee.model.parameters():
        p.data.mul_(1.7)  # for weights that are far from alike
    held = Held(trainee, examples.linears(trainee), softmaxes(trainee))
    held.look(2)
    return trainee, held


def test_slopes_are_those_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a layer gives, of scores and of answers, by central differences; and what is held is what it is."""
    monkeypatch.setattr(transformer, "WEIGHTS", 2 * 12 * 5)  # blocks of 5 queries
    trainee, held = held_of()
    layer, mixer = trainee.model.stack.layers[0].mlp.inner, trainee.model.stack.layers[0].mixer
    batch = next(examples.alone(trainee, 1))
    length = batch.tokens.shape[1]
    name = "stack.layers.0.mlp.inner"
    assert length == len(held.layers[name][0][0]) <= 16

    def loss(site: str, at: tuple[int, ...], by: float) -> float:
        first = [0]

        def moved(name: str, t: torch.Tensor, reverse: bool = False) -> torch.Tensor:
            if name != site:
                return t
            t, row = t.clone(), at[1] - first[0]
            first[0] += t.shape[2]
            if 0 <= row < t.shape[2]:
                t[0, at[0], row, at[2]] += by
            return t

        def bump(_: Any, __: Any, y: torch.Tensor) -> torch.Tensor:
            y = y.clone()
            y[(0, *at)] += by
            return y

        hook = layer.register_forward_hook(bump) if site == "inner" else None
        mixer.forward = lambda x, mask: type(mixer).opened(mixer, x, mask, moved)
        try:
            with torch.no_grad():
                return float(trainee.exam.loss(trainee.model(batch.tokens, batch.mask), batch))
        finally:
            del mixer.forward
            if hook:
                hook.remove()

    for site, found, places in (
        ("inner", held.layers[name][0][1], [(3, 2), (length - 1, 19)]),
        ("score", held.mixers[MIXER][0]["score_slope"], [(1, 2, 3), (0, 7, length - 1)]),
        ("answer", held.mixers[MIXER][0]["answer_slope"], [(0, 4, 2), (1, 11, 7)]),
    ):
        for at in places:
            slope = (loss(site, at, 1e-4) - loss(site, at, -1e-4)) / 2e-4
            assert math.isclose(float(found[at]), slope, rel_tol=1e-5, abs_tol=1e-9), (site, at)
    of = held.mixers[MIXER][0]
    torch.testing.assert_close(of["weight"], (of["query"] @ of["key"].mT / 8**0.5).softmax(-1))


@pytest.mark.parametrize("words", ["", "metric=similarity ranking=0.5 twin=false"])
def test_the_grids_are_those_of_least_error(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an exhaustive search in turns, of a layer behind GELU and of both products of a head."""
    shares = np.linspace(1.2, 0.01, 30)
    monkeypatch.setattr(searched, "SHARES", shares)
    monkeypatch.setattr(ptq4vit, "PAIRS", 5)
    options = dict(each.split("=") for each in words.split())
    metric, ranking = options.get("metric", "hessian"), float(options.get("ranking", 0))
    trainee, held = held_of()
    weights = {n: m.weight.detach().double().numpy().copy() for n, m in examples.linears(trainee).items()}
    made = option(" ".join(["ptq4vit bits=4 examples=2".replace(" ", " treatment."),
                            *(f"treatment.{w}" for w in words.split())]))  # fmt: skip
    after(made, trainee)

    def cost(exact: list, slopes: list, seen: list, pairs: list | None) -> Any:
        def of(found: list) -> float:
            if metric == "hessian":
                rows = list(zip(exact, found, slopes, seen, strict=True))
                off = sum(float((((y - x) * g)[s] ** 2).sum()) for x, y, g, s in rows)
                return off / sum(float(((x * g)[s] ** 2).sum()) for x, _, g, s in rows)
            one, two = (np.concatenate([x[s] for x, s in zip(xs, seen, strict=True)]) for xs in (exact, found))
            lost = [ranked(*each) for each in zip(exact, found, seen, pairs, strict=True)] if pairs else []
            return 1 - pearson(one, two) + (ranking * float(np.mean(np.concatenate(lost))) if pairs else 0.0)

        return of

    name = "stack.layers.0.mlp.outer"
    x, g = (
        np.concatenate(each) for each in zip(*[[t.numpy() for t in pair] for pair in held.layers[name]], strict=True)
    )
    w, twin = weights[name].T, made.twin
    tried = shares * (x.max() if twin else np.abs(x).max()), shares * np.abs(w).max()
    everywhere = [np.ones_like(x @ w, dtype=bool)]
    slow = slow_search([x], [w], tried, (slow_gelu if twin else onto, onto), 4, cost([x @ w], [g], everywhere, None))
    assert np.allclose(list(made.facts["ends"][name].values()), slow, rtol=1e-9)
    left = trainee.model.get_submodule(name).weight.detach().numpy()
    assert np.allclose(left, onto(weights[name], slow[1], 4), atol=1e-12)

    parts = [{site: t[1].numpy() for site, t in of.items()} for of in held.mixers[MIXER]]
    q, k, v, p = ([of[site] for of in parts] for site in ("query", "key", "value", "weight"))
    scale = 8**-0.5
    tried = tuple(shares * max(np.abs(t).max() for t in ts) for ts in (q, k))
    scores = [a @ b.T * scale for a, b in zip(q, k, strict=True)]
    seen, pairs = [a > 0 for a in p], [of["pairs"] for of in parts] if ranking else None
    slow = slow_search([a * scale for a in q], [b.T for b in k], (tried[0] * scale, tried[1]), (onto, onto), 4,
                       cost(scores, [of["score_slope"] for of in parts], seen, pairs))  # fmt: skip
    found = {site: end[1] for site, end in made.facts["heads"][MIXER].items()}
    assert np.allclose([found["query"] * scale, found["key"]], slow, rtol=1e-9)
    tried = np.arange(20.0) if twin else shares * max(a.max() for a in p), shares * max(np.abs(a).max() for a in v)
    read = [a @ b for a, b in zip(p, v, strict=True)]
    of_read = cost(read, [of["answer_slope"] for of in parts], [np.ones_like(a, dtype=bool) for a in read], None)
    slow = slow_search(p, v, tried, (slow_softmax if twin else onto, onto), 4, of_read)
    assert np.allclose([found["weight"], found["value"]], slow, rtol=1e-9)


def test_what_it_answers_is_the_model_on_these_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer's mixer and feed-forward layer, number by number, from the ends that are told."""
    monkeypatch.setattr(searched, "SHARES", np.linspace(1.2, 0.01, 20))
    trainee = subject("transformer", *TINY)
    trainee.model.double()
    made = Ptq4Vit(4, examples=2)
    after(made, trainee)
    layer, ends, heads = trainee.model.stack.layers[0], made.facts["ends"], made.facts["heads"][MIXER]
    x = torch.randn(1, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def linear(name: str, x: np.ndarray, kind: Any = onto) -> np.ndarray:
        module = trainee.model.get_submodule(name)  # whose weight is on its grid
        bias = 0 if module.bias is None else module.bias.detach().numpy()
        return kind(x, ends[name]["input"], 4) @ module.weight.detach().numpy().T + bias

    q, k, v = (linear(f"{MIXER}.{n}", x[0].numpy()).reshape(9, 2, 8) for n in ("query", "key", "value"))
    out = np.zeros_like(q)
    for h in range(2):
        a, b, c = (onto(t[:, h], heads[n][h], 4) for n, t in (("query", q), ("key", k), ("value", v)))
        w = np.exp(a @ b.T / 8**0.5)
        out[:, h] = slow_softmax(w / w.sum(1, keepdims=True), heads["weight"][h], 4) @ c
    slow = linear(f"{MIXER}.out", out.reshape(9, 16))
    with torch.no_grad():
        assert np.allclose(layer.mixer(x, torch.ones(1, 9, dtype=torch.bool))[0], slow, atol=1e-9)
        inner = linear("stack.layers.0.mlp.inner", x[0].numpy())
        given = F.gelu(torch.from_numpy(inner), approximate="tanh").numpy()
        assert np.allclose(layer.mlp(x)[0], linear("stack.layers.0.mlp.outer", given, slow_gelu), atol=1e-9)


@pytest.mark.parametrize("model", ["transformer", "linear", "s4d"])
def test_other_mixers_and_many_bits(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searched, "SHARES", np.linspace(1.2, 0.6, 10))
    trainee = subject(model, "size.depth=1")
    batch = batch_of(trainee)
    plain, given = answers(trainee, batch), [t.clone() for t in batch]
    made = option("ptq4vit treatment.bits=24 treatment.examples=3")
    trainee = after(made, trainee)
    first = answers(trainee, batch)
    assert torch.equal(first, answers(trainee, batch))
    assert all(torch.equal(a, b) for a, b in zip(given, batch, strict=True))
    assert torch.equal(first.argmax(-1)[batch.mask], plain.argmax(-1)[batch.mask])
    found = facts(made)
    assert found["executed"] is False and 0 < found["linear_flops"] < 1 < found["bound"]
    assert found["softmaxes"] == (model == "transformer") == len(found["heads"]) and found["gelus"] == 1


def test_what_it_does_not_take() -> None:
    with pytest.raises(ValueError, match=r"treatment\.ranking: the model's mixers do not show scores"):
        after(Ptq4Vit(metric="similarity", ranking=1.0), subject("linear"))
    with pytest.raises(ValueError, match=r"treatment\.ranking: stands beside similarity"):
        Ptq4Vit(ranking=1.0)
    for field, value in (("bits", 25), ("metric", "kl"), ("ranking", -1), ("twin", 1), ("examples", 0)):
        with pytest.raises(ValueError, match=rf"^treatment\.{field}: "):
            Ptq4Vit(**{field: value})
