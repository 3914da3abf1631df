"""What mixers multiply along the length, site by site: which mixers show it (`opened`), how they are made to be called
that way, and where the grid of a head ends at each site.

A site is a name of `opened`'s, with `_back` behind it for a direction against the length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lra.treatments import ranges
from lra.treatments.examples import alone, called, calls_of

NEAR, NARROW = 1e-4, 3e-2  # of the largest output: how far rounding takes two ways to sum, and of narrow types
BACK = "_back"
Ends = dict[str, dict[str, Tensor]]  # of a mixer's name and a site, (H,)


class Opened:
    """`forward` of a mixer that is opened, with `at(mixer's name, site, t)`."""

    def __init__(self, name: str, at: Callable[[str, str, Tensor], Tensor], each: bool) -> None:
        self.name, self.at, self.each = name, at, each

    def __call__(self, mixer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        return mixer.opened(x, mask, self.shown, self.each)

    def shown(self, name: str, t: Tensor, reverse: bool = False) -> Tensor:
        return self.at(self.name, name + BACK * reverse, t)


def openable(model: nn.Module) -> dict[str, nn.Module]:
    """The mixers that open, by name."""
    return {name: m for name, m in model.named_modules() if callable(getattr(m, "opened", None))}


def opening(trainee: Any) -> dict[str, nn.Module]:
    """As `openable`. Raises ValueError where a layer of the stack has none."""
    model = trainee.model.eval()
    found = openable(model)
    layers = getattr(getattr(model, "stack", None), "layers", ())
    own = [layer.mixer for layer in layers if hasattr(layer, "mixer")]
    closed = [m for m in own if not set(m.modules()) & set(found.values())]
    if closed or not found:
        what = f"{type(closed[0]).__name__} does" if closed else "the model's mixers do"
        raise ValueError(f"{what} not show what is multiplied along the length, by a method `opened`")
    return found


def open_up(mixers: Mapping[str, nn.Module], at: Callable[[str, str, Tensor], Tensor], each: bool = False) -> None:
    """From now on they are called as opened. A copy of a model keeps to it."""
    for name, mixer in mixers.items():
        mixer.forward = MethodType(Opened(name, at, each), mixer)


def close(mixers: Mapping[str, nn.Module]) -> None:
    for mixer in mixers.values():
        mixer.__dict__.pop("forward", None)


def shown(trainee: Any, mixers: Mapping[str, nn.Module], at: Callable[[str, str, Tensor], Tensor], count: int,
          each: bool = False) -> None:  # fmt: skip
    """`at` of all that mixers show of `count` training examples, one at a time."""
    open_up(mixers, at, each)
    try:
        for batch in alone(trainee, count):
            called(trainee, batch)
    finally:
        close(mixers)


@torch.no_grad()
def sites(trainee: Any, mixers: Mapping[str, nn.Module], each: bool) -> dict[str, list[str]]:
    """Of each mixer the sites that it shows, in their order. Raises ValueError where it does not give then what it
    gives."""
    found: dict[str, list[str]] = {name: [] for name in mixers}
    near = NEAR if trainee.acc.dtype == "float32" else NARROW

    def at(name: str, site: str, t: Tensor) -> Tensor:
        if site not in found[name]:
            found[name].append(site)
        return t

    for name, (given, y) in calls_of(trainee, mixers).items():
        with trainee.acc.autocast():
            again = Opened(name, at, each)(mixers[name], *given)
        if not bool((again - y).abs().max() <= near * y.abs().max()):
            raise ValueError(f"{name}: what it opens to is not what it computes")
    return found


def ends(trainee: Any, mixers: Mapping[str, nn.Module], count: int, each: bool, bits: int, rule: str,
         percentile: float) -> Ends:  # fmt: skip
    """Where the grid of each head ends at each site, by a rule of lra.treatments.ranges, from training examples.

    What is exactly 0 is on any grid and not counted: so stands what a query does not see.
    """
    largest: Ends = {name: {} for name in mixers}

    def look(name: str, site: str, t: Tensor) -> Tensor:
        top = t.detach().abs().amax((0, 2, 3)).double()
        largest[name][site] = torch.maximum(largest[name].get(site, top), top)
        return t

    shown(trainee, mixers, look, count, each)
    if rule == "max":
        return largest
    counts = {n: {s: np.zeros((len(top), ranges.BINS)) for s, top in of.items()} for n, of in largest.items()}

    def tell(name: str, site: str, t: Tensor) -> Tensor:
        counts[name][site] += counted(t.detach(), largest[name][site])
        return t

    shown(trainee, mixers, tell, count, each)
    return {
        name: {
            site: torch.tensor([
                ranges.of_counts(row, float(end), bits, rule, percentile)
                for row, end in zip(counts[name][site], top, strict=True)
            ], dtype=torch.float64)
            for site, top in of.items()
        }
        for name, of in largest.items()
    }  # fmt: skip


def counted(t: Tensor, largest: Tensor) -> np.ndarray:
    """How many |t| of t (B, H, n, m), zeros not, lie in each of the bins from 0 to their head's largest: (H, BINS)."""
    heads = t.abs().double().transpose(0, 1).flatten(1)
    scale = ranges.BINS / largest.clamp(min=torch.finfo(torch.float64).tiny).to(t.device)
    bins = (heads * scale.unsqueeze(1)).long().clamp(max=ranges.BINS - 1)
    bins += ranges.BINS * torch.arange(len(heads), device=t.device).unsqueeze(1)
    found = torch.bincount(bins[heads > 0], minlength=ranges.BINS * len(heads))
    return found.reshape(len(heads), -1).cpu().numpy()
