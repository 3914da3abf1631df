"""Attention with the least important heads removed (Michel et al. 2019, arXiv 1905.10650, section 3): importance is
normalised in each layer by its l2 norm, and heads go from the least on, whatever their layer, without retraining.

Where a mixer is what its projections and parameters of a head each make it, the heads are cut out, and what is left is
a smaller mixer. Whether that holds is tried: it has to give what the mixer gives with these heads silenced. Where it
does not (a mixer that draws by head, or mixes heads) they are silenced, which costs what it did before.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lra.machine.device import own_randomness
from lra.treatments.examples import at_least_one, calls_of, put, share_of, weight_bytes
from lra.treatments.importance import importance
from lra.treatments.neurons import columns_of, rows_of

NEAR = 1e-4  # of the largest output: how far rounding takes two ways to sum


class Heads:
    """share: of all heads that go; each layer keeps one. examples: that importance is taken of. Raises ValueError."""

    def __init__(self, share: float = 0.5, examples: int = 64) -> None:
        self.share, self.examples = share_of("share", share), at_least_one("examples", examples)

    def after(self, trainee: Any) -> Any:
        mixers = multiheads(trainee.model)
        found = importance(trainee, {n: (m.out, m.heads) for n, m in mixers.items()}, self.examples)
        if not found:
            raise ValueError("the model has no mixer whose heads are told apart before its out-projection")
        keep = kept(found, self.share)
        calls, silenced = calls_of(trainee, {n: mixers[n] for n in found}), []
        for name, heads in keep.items():
            mixer = mixers[name]
            if len(heads) == mixer.heads:
                continue
            silent = silence(copy.deepcopy(mixer), heads)
            smaller = of_heads(mixer, heads, silent, calls[name][0], trainee)
            if smaller is None:
                silenced.append(name)
            put(trainee.model, mixer, silent if smaller is None else smaller)
        self.facts = {
            "executed": not silenced,
            "kept": {n: heads.tolist() for n, heads in keep.items()},
            "silenced": silenced,
            "weight_bytes": weight_bytes(trainee.model),
        }
        return trainee


def multiheads(model: nn.Module) -> dict[str, nn.Module]:
    """Mixers of several heads that an out-projection joins."""

    def is_one(m: nn.Module) -> bool:
        heads, width, out = (getattr(m, key, None) for key in ("heads", "head_dim", "out"))
        return isinstance(heads, int) and type(out) is nn.Linear and out.in_features == heads * (width or 0)

    return {name: m for name, m in model.named_modules() if is_one(m)}


def kept(found: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Of each layer the numbers of the heads that stay, from the importance (H,) of its heads."""
    scores = {name: score / score.norm().clamp(min=1e-300) for name, score in found.items()}
    order = sorted((float(s), name, h) for name, score in scores.items() for h, s in enumerate(score))
    left = {name: set(range(len(score))) for name, score in scores.items()}
    to_go = int(share * len(order))
    for _, name, head in order:
        if to_go and len(left[name]) > 1:
            left[name].discard(head)
            to_go -= 1
    return {name: torch.tensor(sorted(heads)) for name, heads in left.items()}


def channels(heads: Tensor, width: int) -> Tensor:
    return (heads[:, None] * width + torch.arange(width)).flatten()


@torch.no_grad()
def silence(mixer: nn.Module, heads: Tensor) -> nn.Module:
    """The mixer whose other heads say nothing."""
    gone = torch.ones(mixer.out.in_features, dtype=torch.bool)
    gone[channels(heads, mixer.head_dim)] = False
    mixer.out.weight[:, gone] = 0
    return mixer


def of_heads(
    mixer: nn.Module, heads: Tensor, silent: nn.Module, inputs: tuple[Any, ...], trainee: Any
) -> nn.Module | None:
    """The mixer with these heads alone, in their order, if that gives what `silent` gives; else null."""
    # Of a Performer with as many features as channels the second: what it draws has no row a channel.
    for buffers in (True, False):
        made = sliced(mixer, heads, buffers)
        if made is not None and alike(made, silent, inputs, trainee):
            return made
    return None


def sliced(mixer: nn.Module, heads: Tensor, buffers: bool = True) -> nn.Module | None:
    """A copy with these heads alone, in their order: of every parameter, and buffer where it is said, that has a row a
    head, or a row a channel, theirs. Null of a mixer without the usual three projections."""
    made, number, width = copy.deepcopy(mixer), mixer.heads, mixer.head_dim
    own = channels(heads, width)
    names = ("query", "key", "value")
    if any(type(getattr(made, n, None)) is not nn.Linear for n in names):
        return None
    if any(getattr(made, n).out_features != number * width for n in names):
        return None
    for name in names:
        setattr(made, name, rows_of(getattr(made, name), own))
    made.out = columns_of(made.out, own)
    done = {id(p) for n in (*names, "out") for p in getattr(made, n).parameters()}
    for module in made.modules():
        for store in (module._parameters, module._buffers) if buffers else (module._parameters,):
            for key, value in store.items():
                if value is None or id(value) in done or value.dim() == 0:
                    continue
                rows = {number: heads, number * width: own}.get(value.shape[0])
                if rows is not None:
                    part = value.detach()[rows.to(value.device)].clone()
                    store[key] = nn.Parameter(part) if isinstance(value, nn.Parameter) else part
    for module in made.modules():
        if getattr(module, "heads", None) == number:
            module.heads = len(heads)
    return made


@torch.no_grad()
def alike(a: nn.Module, b: nn.Module, inputs: tuple[Any, ...], trainee: Any) -> bool:
    """Do both give the same? A mixer that does not bear to be cut raises whatever it raises."""
    try:
        with own_randomness(trainee.seed):
            x = a.eval()(*inputs)
        with own_randomness(trainee.seed):
            y = b.eval()(*inputs)
    except Exception:
        return False
    return x.shape == y.shape and bool((x - y).abs().max() <= NEAR * y.abs().max())
