"""Weights, inputs and attention products on few bits, each grid searched for by what it does to its product, with twin
grids after softmax and GELU (Yuan et al. 2022, PTQ4ViT, arXiv 2111.12293), imitated in floats.

Linear layers have one grid a weight and one an input, as there. Queries, keys, values and weights of softmax mixers
that show them (`opened`) have one a head; scores stay floats, and so do other mixers between their linear layers.
Gradients are those of the loss of labels: that of a divergence from the model's own answers is rounding noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lra.treatments import ranges
from lra.treatments.examples import alone, at_least_one, in_bits, linears, of_linears, one_of, whole, wide
from lra.treatments.fake_quant import BITS
from lra.treatments.neurons import feed_forwards
from lra.treatments.searched import (
    GELU_LEAST,
    METRICS,
    SHIFTS,
    Factor,
    Product,
    of_largest,
    searched,
    twin_gelu,
    twin_softmax,
)
from lra.treatments.sites import close, open_up, openable, shown

ROWS, PAIRS = 16, 64  # positions of an example whose products are looked at, and pairs of keys of each
SITES = ("query", "key", "value", "score", "weight", "answer")


class Ptq4Vit:
    """bits: of each number, 2 to 24. metric: "hessian" or "similarity". ranking: what the order of scores weighs beside
    similarity, 0 or more. twin: false for plain grids everywhere. examples: that are seen. Raises ValueError."""

    def __init__(
        self, bits: int = 8, metric: str = "hessian", ranking: float = 0.0, twin: bool = True, examples: int = 32
    ) -> None:
        if isinstance(ranking, bool) or not isinstance(ranking, (int, float)) or not 0 <= ranking < float("inf"):
            raise ValueError(f"treatment.ranking: {ranking!r} is not 0 or more")
        self.bits, self.metric, self.ranking = (
            whole("bits", bits, *BITS),
            one_of("metric", metric, METRICS),
            float(ranking),
        )
        if not isinstance(twin, bool):
            raise ValueError(f"treatment.twin: {twin!r} is not true or false")
        if ranking and metric != "similarity":
            raise ValueError("treatment.ranking: stands beside similarity; allowed with treatment.metric=similarity")
        self.twin, self.examples = twin, at_least_one("examples", examples)

    def after(self, trainee: Any) -> Any:
        layers, mixers = linears(trainee), softmaxes(trainee)
        if self.ranking and not mixers:
            raise ValueError("treatment.ranking: the model's mixers do not show scores of a softmax; allowed: 0")
        held = Held(trainee, layers, mixers)
        held.look(self.examples)
        gelus = {f"{name}.outer" for name in feed_forwards(trainee.model)} if self.twin else set()
        ends, twins = {}, 0
        for name, layer in layers.items():
            twin = name in gelus and -GELU_LEAST <= min(float(x.min()) for x, _ in held.layers[name]) < 0
            ends[name] = self.linear(layer, held.layers[name], twin)
            twins += twin
        found = {name: self.attention(parts) for name, parts in held.mixers.items()}
        self.facts = {
            "executed": False,
            **of_linears(trainee, layers),
            "softmaxes": len(mixers),
            "gelus": twins,
            "weight_bytes": in_bits(trainee.model, layers, self.bits),
            "ends": ends,
            "heads": {n: {site: end.tolist() for site, end in of.items()} for n, of in found.items()},
        }

        def at(name: str, site: str, t: Tensor) -> Tensor:
            return self.on(site, t, found[name][site]) if site in found[name] else t

        open_up(mixers, at)
        return trainee

    def linear(self, layer: nn.Linear, seen: list[tuple[Tensor, Tensor]], twin: bool) -> dict[str, float]:
        """Put a layer on its grids, whose ends are given."""
        x, slopes = (torch.cat(each)[None] for each in zip(*seen, strict=True))
        weight = layer.weight.detach()
        a = Factor([x], twin_gelu if twin else ranges.onto, of_largest([x.clamp(min=0) if twin else x]))
        b = Factor([weight.T[None]], ranges.onto, of_largest([weight[None]]))
        given, own = searched(Product(a, b, [slopes]), self.bits, self.metric, 0.0)
        with torch.no_grad():
            layer.weight.copy_(ranges.onto(weight, own.to(weight), self.bits))
        layer.register_forward_pre_hook(partial(_given, quantise=a.quantise, end=float(given), bits=self.bits))
        return {"input": float(given), "weight": float(own)}

    def attention(self, seen: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Of each site where the grid of each head ends; of weights on twin grids the m of the finer one."""
        q, k, v, w = ([of[name] for of in seen] for name in ("query", "key", "value", "weight"))
        plain = [Factor(x, ranges.onto, of_largest(x)) for x in (q, [x.mT for x in k], v, w)]
        heads = len(q[0])
        if self.twin:
            shifts = torch.as_tensor(SHIFTS, device=q[0].device)[:, None].expand(-1, heads)
            plain[3] = Factor(w, twin_softmax, shifts)
        counts, pairs = [x > 0 for x in w], [of["pairs"] for of in seen] if self.ranking else None
        scores = Product(plain[0], plain[1], [of["score_slope"] for of in seen], q[0].shape[-1] ** -0.5, counts, pairs)
        read = Product(plain[3], plain[2], [of["answer_slope"] for of in seen])
        found = {}
        found["query"], found["key"] = searched(scores, self.bits, self.metric, self.ranking)
        found["weight"], found["value"] = searched(read, self.bits, self.metric, 0.0)
        return found

    def on(self, site: str, t: Tensor, end: Tensor) -> Tensor:
        quantise = twin_softmax if site == "weight" and self.twin else ranges.onto
        return quantise(t, end.to(t.device, t.dtype).view(-1, 1, 1), self.bits)


def _given(_: nn.Module, given: tuple[Tensor, ...], quantise: Any, end: float, bits: int) -> tuple[Tensor, ...]:
    return quantise(given[0], end, bits), *given[1:]


def softmaxes(trainee: Any) -> dict[str, nn.Module]:
    """The mixers that open and show softmax weights, by name."""
    named, met = openable(trainee.model), set()

    def at(name: str, site: str, t: Tensor) -> Tensor:
        if site == "weight":
            met.add(name)
        return t

    shown(trainee, named, at, 1)
    return {name: m for name, m in named.items() if name in met}


class Held:
    """What products are made of, of some positions of each example that is looked at, and the slopes of the loss.

    layers: of each linear layer what it is given (n, in) and the slope of what it gives (n, out), an example each.
    mixers: of each softmax mixer rows of queries, weights and both slopes, and all keys and values, by head.
    A slope is 1 where the loss does not come by: what counts there is the error itself.
    """

    def __init__(self, trainee: Any, layers: dict[str, nn.Linear], mixers: dict[str, nn.Module]) -> None:
        self.trainee, self.modules, self.opened = trainee, layers, mixers
        self.draw = torch.Generator().manual_seed(trainee.seed)
        self.layers: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
        self.mixers: dict[str, list[dict[str, Tensor]]] = {name: [] for name in mixers}

    def look(self, count: int) -> None:
        hooks = [m.register_forward_hook(partial(self.given, name=n)) for n, m in self.modules.items()]
        open_up(self.opened, self.shown)
        self.trainee.model.eval()
        try:
            for batch in alone(self.trainee, count):
                self.now: dict[str, list[tuple[Tensor, Tensor]]] = {}
                self.sites: dict[tuple[str, str], list[Tensor]] = {}
                with torch.enable_grad(), self.trainee.acc.autocast():
                    loss = self.trainee.exam.loss(self.trainee.model(batch.tokens, batch.mask), batch)
                self.differentiate(loss)
        finally:
            close(self.opened)
            for hook in hooks:
                hook.remove()

    def given(self, _: nn.Module, inputs: tuple[Tensor, ...], y: Tensor, name: str) -> None:
        self.now.setdefault(name, []).append((inputs[0].detach(), y))

    def shown(self, name: str, site: str, t: Tensor) -> Tensor:
        if site in SITES:
            self.sites.setdefault((name, site), []).append(t)
        return t

    def differentiate(self, loss: Tensor) -> None:
        products = [y for calls in self.now.values() for _, y in calls]
        products += [t for (_, site), ts in self.sites.items() if site in ("score", "answer") for t in ts]
        found = torch.autograd.grad(loss, products, allow_unused=True)
        slopes = {id(y): torch.ones_like(y) if g is None else g for y, g in zip(products, found, strict=True)}
        for name, calls in self.now.items():
            x = torch.cat([x.flatten(0, -2) for x, _ in calls])
            g = torch.cat([slopes[id(y)].flatten(0, -2) for _, y in calls])
            at = self.rows(len(x))
            self.layers[name].append((wide(x[at]), wide(g[at])))
        for name in self.mixers:
            self.mixers[name].extend(self.heads(name, slopes))

    def heads(self, name: str, slopes: dict[int, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Of a mixer, of each sequence: (H, n, m) each."""
        blocks = {site: self.sites[name, site] for site in SITES}
        joined = {site: torch.cat(ts, 2).detach() for site, ts in blocks.items()}
        for site in ("score", "answer"):
            joined[f"{site}_slope"] = torch.cat([slopes[id(t)] for t in blocks[site]], 2)
        for i in range(len(joined["query"])):
            at = self.rows(joined["query"].shape[2])
            out = {site: wide(t[i] if site in ("key", "value") else t[i][:, at]) for site, t in joined.items()}
            heads, rows = out["query"].shape[:2]
            pairs = torch.randint(out["key"].shape[1], (heads, rows, PAIRS, 2), generator=self.draw)
            yield out | {"pairs": pairs.to(out["key"].device)}

    def rows(self, length: int) -> Tensor:
        """Positions of so many that are looked at, in their order."""
        return torch.randperm(length, generator=self.draw)[:ROWS].sort().values
