"""What mixers multiply and keep on a grid: against twins that go token by token in float64, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lra.models import transformer
from lra.models.parts import decay, delta
from lra.treatments import after, examples, facts, ranges
from lra.treatments.int8_attention import Int8Attention
from lra.treatments.sites import opening, shown
from tests.treatments.test_options import answers, batch_of, option, subject
from tests.treatments.test_ranges import slow_divergence

FAMILIES = {
    "transformer": ("model.mixer.persistent=3",),
    "transformer causal": ("model.mixer.causal=true",),
    "linear": (),
    "linear causal": ("model.mixer.causal=true",),
    "performer": ("model.mixer.features=6",),
    "performer relu": ("+model.mixer.kernel=relu", "model.mixer.features=6"),
    "deltanet": ("model.mixer.steps=2", "model.mixer.gated=true"),
    "gla": (),
}
Round = Callable[..., np.ndarray]
MIXER = "stack.layers.0.mixer"


def of(name: str) -> Any:
    return subject(name.split()[0], "size.depth=1", *FAMILIES[name])


def grid(x: np.ndarray, end: float, bits: int) -> np.ndarray:
    n = 2 ** (bits - 1) - 1
    return np.clip(np.rint(x / (end / n)), -n, n) * (end / n) if end else np.zeros_like(x)


def rounding(made: Any, name: str) -> Round:
    """r(site, head, x): x, a row or a state, on its grid."""
    ends, on = made.facts["ends"][name], made.facts["sites"][name]

    def r(site: str, head: int, x: np.ndarray) -> np.ndarray:
        if site not in on:
            return x
        return grid(x, ends[site][head] if ends else np.abs(x).max(), made.bits)

    return r


def heads(mixer: Any, x: torch.Tensor, name: str) -> np.ndarray:
    return getattr(mixer, name)(x).unflatten(-1, (mixer.heads, -1)).numpy()


def attention(mixer: Any, x: torch.Tensor, r: Round, each: bool) -> np.ndarray:
    q, k, v = (heads(mixer, x, name) for name in ("query", "key", "value"))
    out = np.zeros_like(q)
    for h in range(mixer.heads):
        keys, values = [*k[:, h]], [*v[:, h]]
        if mixer.persistent_key is not None:
            own = mixer.persistent_key[h], mixer.persistent_value[h]
            keys = [*(own[0] * mixer.head_dim**0.5).numpy(), *keys]
            values = [*(own[1] * len(own[1]) ** 0.5).numpy(), *values]
        keys, values = [r("key", h, a) for a in keys], [r("value", h, a) for a in values]
        for i in range(len(x)):
            seen = i + 1 if mixer.causal else len(keys)
            asked = r("query", h, q[i, h])
            scores = r("score", h, np.array([asked @ a for a in keys[:seen]]) / math.sqrt(mixer.head_dim))
            weights = np.exp(scores) / np.exp(scores).sum()
            out[i, h] = r("weight", h, weights) @ np.array(values[:seen])
    return mixer.out(torch.from_numpy(out).flatten(1)).numpy()


def kernel(mixer: Any, x: torch.Tensor, r: Round, each: bool) -> np.ndarray:
    q, k, v = (heads(mixer, x, name) for name in ("query", "key", "value"))
    relu = getattr(mixer, "kernel", None) == "relu"
    w = mixer.projection.double().numpy() if relu else None

    def phi(a: np.ndarray) -> np.ndarray:
        return np.maximum(w @ a, 0) + 1e-3 if relu else np.where(a > 0, a + 1, np.exp(a))

    out = np.zeros_like(q)
    for h in range(mixer.heads):
        f = [r("query_feature", h, phi(r("query", h, a))) for a in q[:, h]]
        g = [r("key_feature", h, phi(r("key", h, a))) for a in k[:, h]]
        state, total = np.zeros((len(g[0]), q.shape[2])), np.zeros((len(g[0]), 1))
        kept = []
        for i in range(len(x)):
            state = state + np.outer(g[i], r("value", h, v[i, h]))
            total = total + g[i][:, None]
            if each:
                state, total = r("state", h, state), r("total", h, total)
            kept.append((state, total))
        if not each and not mixer.causal:
            kept[-1] = r("state", h, state), r("total", h, total)
        for i in range(len(x)):
            s, z = kept[i] if mixer.causal else kept[-1]
            out[i, h] = f[i] @ s / (f[i] @ z + 1e-6)
    return mixer.out(torch.from_numpy(out).flatten(1)).numpy()


def favor(mixer: Any, x: torch.Tensor, r: Round, each: bool) -> np.ndarray:
    q, k, v = (heads(mixer, x, name) for name in ("query", "key", "value"))
    w, out, scale = mixer.projection.double().numpy(), np.zeros_like(q), mixer.head_dim**-0.25
    for h in range(mixer.heads):
        keys = [r("key", h, a) * scale for a in k[:, h]]
        logits = np.array([w @ a - a @ a / 2 for a in keys])  # (L, K)
        values = np.array([r("value", h, a) for a in v[:, h]])
        total = np.log(np.exp(logits).sum(0))
        if each:
            total, state = logits[0].copy(), np.zeros((len(w), q.shape[2]))
            for i, row in enumerate(logits):
                new = np.log(np.exp(total) + np.exp(row)) if i else row
                share = r("key_feature", h, np.exp(row - new))
                state = r("state", h, state + share[:, None] * (values[i] - state))
                total = r("total", h, new)
        else:
            shares = np.array([r("key_feature", h, row) for row in np.exp(logits - total)])
            state, total = r("state", h, shares.T @ values), r("total", h, total)
        for i in range(len(x)):
            f = w @ (r("query", h, q[i, h]) * scale) + total
            f = np.exp(f - f.max()) / np.exp(f - f.max()).sum()
            out[i, h] = r("query_feature", h, f) @ state
    return mixer.out(torch.from_numpy(out).flatten(1)).numpy()


def both_ways(mixer: Any, x: torch.Tensor, r: Round, each: bool) -> np.ndarray:
    """Delta rules and gated linear attention: S <- d S, then (delta) towards v under k, else k v besides."""
    delta, width, ways = hasattr(mixer, "write"), None, []
    steps = mixer.steps if delta else 1
    for way, back in ((0, ""), (1, "_back")):
        if delta:
            q, k, v = (mixer.convolved(n, x[None])[way][0].numpy() for n in ("query", "key", "value"))
            beta = torch.sigmoid(mixer.write(x)).chunk(2, -1)[way].numpy() * mixer.most
            decay = np.ones((len(x), mixer.heads, 1))
            if mixer.forget is not None:
                decay = mixer.forget(x[None], None)[1][0].chunk(2, -1)[way].exp().numpy()[..., None]
        else:
            q, k, v = (getattr(mixer, n)(x).chunk(2, -1)[way].numpy() for n in ("query", "key", "value"))
            gate = torch.nn.functional.logsigmoid(mixer.forget(x)) / 16
            decay = gate.chunk(2, -1)[way].exp().numpy().reshape(len(x), mixer.heads, -1)
        q = q.reshape(len(x), mixer.heads, -1)
        k, v = (a.reshape(len(x), steps, mixer.heads, -1) for a in (k, v))
        y = np.zeros((len(x), mixer.heads, v.shape[-1]))
        for h in range(mixer.heads):
            state = np.zeros((k.shape[-1], v.shape[-1]))
            for i in reversed(range(len(x))) if way else range(len(x)):
                asked, width = q[i, h], q.shape[-1]
                if delta:
                    asked = asked / np.sqrt(asked @ asked + 1e-6)
                asked = r("query" + back, h, asked / math.sqrt(width))
                state = decay[i, h][:, None] * state
                for s in range(steps):
                    key, value = k[i, s, h], r("value" + back, h, v[i, s, h])
                    if delta:
                        key = r("key" + back, h, key / np.sqrt(key @ key + 1e-6))
                        b = beta.reshape(len(x), steps, mixer.heads)[i, s, h]
                        state = state + b * np.outer(key, value - key @ state)
                    else:
                        state = state + np.outer(r("key" + back, h, key), value)
                    state = r("state" + back, h, state) if each else state
                y[i, h] = asked @ state
        ways.append(torch.from_numpy(y))
    y = mixer.norm([a[None] for a in ways])[0]
    if mixer.gate is not None:
        y = y * torch.nn.functional.silu(mixer.gate(x))
    return mixer.out(y).numpy()


TWINS = {"transformer": attention, "linear": kernel, "performer": favor, "deltanet": both_ways, "gla": both_ways}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_what_is_multiplied_and_kept_is_rounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows as they come and by fixed grids, beside padding of anything, beyond a chunk and a block of queries."""
    monkeypatch.setattr(transformer, "WEIGHTS", 2 * 4 * 24 * 10)
    monkeypatch.setattr(delta, "CHUNK", 8)
    monkeypatch.setattr(decay, "CHUNK", 8)
    x = torch.randn(2, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    mask = torch.ones(2, 24, dtype=torch.bool)
    mask[1, 12:] = False
    x[~mask] = 1e3
    twin = favor if name == "performer" else kernel if name == "performer relu" else TWINS[name.split()[0]]
    for made in (Int8Attention(6, "all", "token"), Int8Attention(5, "products", "max", examples=2)):
        trainee = of(name)
        mixer = trainee.model.double().stack.layers[0].mixer
        plain = mixer(x, mask)
        after(made, trainee)
        found, moved = mixer(x, mask), 0.0
        for row, real in enumerate(mask):
            slow = twin(mixer, x[row][real], rounding(made, MIXER), made.of == "all")
            assert np.abs(found[row][real].numpy() - slow).max() <= 1e-9 * np.abs(slow).max(), made.of
            moved = max(moved, float((found[row] - plain[row])[real].abs().max() / plain[row][real].abs().max()))
        assert moved > 1e-3, made.of


def test_what_each_choice_rounds() -> None:
    three, two, features = {"query", "key", "value"}, {"state", "total"}, {"query_feature", "key_feature"}
    for of_what, name, names in (
        ("all", "transformer", three | {"score", "weight"}),
        ("all", "linear", three | features | two),
        ("products", "linear", three | features | two),
        ("all", "performer", three | features | two),
        ("all", "performer relu", three | features | two),
        ("all", "gla", three | {"state"}),
        ("all", "deltanet", three | {"state"}),
        ("products", "deltanet", three),
        ("state", "transformer", {"key", "value"}),
        ("state", "linear", two),
        ("state", "deltanet", {"state"}),
        ("keys_values", "linear", {"key", "value"}),
    ):
        made = Int8Attention(of=of_what, calibration="token")
        after(made, of(name))
        assert {site.removesuffix("_back") for site in made.facts["sites"][MIXER]} == names, (of_what, name)


def test_a_state_that_is_rounded_after_every_token_is_full_sooner() -> None:
    """Of one sum over all tokens int8 loses a part in a hundred; of one that is rounded at each token the tokens that
    come when it is large: what a token adds is less than half a step."""
    off = {}
    for what in ("products", "state"):
        trainee = of("linear")
        mixer = trainee.model.stack.layers[0].mixer
        x = torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(6))
        x = torch.cat((x, x[:, :4].repeat(1, 75, 1) * 1e-2), 1)  # three hundred that say little, one after the other
        mask = torch.ones(1, x.shape[1], dtype=torch.bool)
        with torch.no_grad():
            plain = mixer(x, mask)
            after(Int8Attention(8, what, "token"), trainee)
            off[what] = float((mixer(x, mask) - plain).norm() / plain.norm())
    assert off["products"] < 0.05 < 0.2 < off["state"], off


@pytest.mark.parametrize("rule", ["max", "percentile", "kl"])
def test_where_grids_end(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the words of the rule, of all that a head shows of real tokens and is not 0."""
    monkeypatch.setattr(ranges, "BINS", 96)
    trainee, made = of("transformer causal"), Int8Attention(3, "all", rule, 90.0, examples=2)
    held: dict[str, list[np.ndarray]] = {}

    def keep(name: str, site: str, t: torch.Tensor) -> torch.Tensor:
        if name == MIXER:
            held.setdefault(site, []).append(t[:, 1].abs().double().numpy().ravel())
        return t

    with torch.no_grad():
        shown(trainee, opening(trainee), keep, 2)
    after(made, trainee)
    for site in made.facts["sites"][MIXER]:
        x, end = np.concatenate(held[site]), made.facts["ends"][MIXER][site][1]
        x = x[x > 0]
        counts = np.bincount((x * (96 / x.max())).astype(int).clip(max=95), minlength=96)
        bins = 96
        if rule == "percentile":
            bins = next(n for n in range(1, 97) if counts[:n].sum() >= 0.9 * len(x))
        elif rule == "kl":
            bins = 4 + int(np.argmin([slow_divergence(counts.tolist(), n, 4) for n in range(4, 97)]))
        assert math.isclose(end, bins * x.max() / 96), site


@pytest.mark.parametrize("name", ["transformer", "linear", "performer", "deltanet", "gla"])
def test_at_24_bits_nothing_changes_and_two_calls_agree(name: str) -> None:
    trainee = of(name)
    batch = batch_of(trainee)
    plain, given = answers(trainee, batch), [t.clone() for t in batch]
    trainee = after(option("int8_attention treatment.bits=24 treatment.calibration=token"), trainee)
    first, second = answers(trainee, batch), answers(trainee, batch)
    assert torch.equal(first, second) and all(torch.equal(a, b) for a, b in zip(given, batch, strict=True))
    assert torch.equal(first.argmax(-1)[batch.mask], plain.argmax(-1)[batch.mask])
    assert (first - plain)[batch.mask].abs().max() <= 1e-5 * plain.abs().max()


def test_facts() -> None:
    trainee, made = of("linear"), option("int8_attention treatment.examples=2")
    share = examples.linear_share(trainee, examples.linears(trainee))
    after(made, trainee)
    found = facts(made)
    assert found["executed"] is False and found["linear_flops"] == share and found["bound"] == 1 / share > 1
    floats = 4 * 8 * 9  # four heads of S and z
    assert found["state_bytes"] == {"before": 4 * floats, "after": floats}
    assert found["weight_bytes"] == examples.weight_bytes(trainee.model)
    made = Int8Attention(of="keys_values", calibration="token")
    after(made, of("transformer causal"))
    assert made.facts["bound"] is None and made.facts["state_bytes"]["after"] == 2 * 32 * trainee.exam.max_len


def test_what_cannot_be_rounded_is_a_line() -> None:
    for name in ("s4d", "fnet"):
        with pytest.raises(ValueError, match=r"does not show what is multiplied along the length") as caught:
            after(Int8Attention(), subject(name))
        assert "\n" not in str(caught.value)
    trainee = of("transformer")
    trainee.model.stack.layers[0].mixer.opened = lambda x, mask, at, each: x
    with pytest.raises(ValueError, match=r"layers\.0\.mixer: what it opens to is not what it computes"):
        after(Int8Attention(), trainee)
    assert not any("forward" in m.__dict__ for m in trainee.model.modules() if isinstance(m, nn.Module))
    for field, value in (("bits", 1), ("of", "keys"), ("calibration", "least"), ("percentile", 0), ("examples", 0)):
        with pytest.raises(ValueError, match=rf"^treatment\.{field}: "):
            Int8Attention(**{field: value})
