"""What a treatment learns from: training examples, one at a time and so without padding, and the layers they meet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lra.machine.flops import counter
from lra.tasks.base import collate
from lra.train.batches import stream
from lra.uncompiled import uncompiled


def alone(trainee: Any, count: int) -> Iterator[Any]:
    """Batches of one training example each, the first `count` that the run's own seed deals out: no position of them
    is padding but, of two documents, the end of the shorter."""
    split = trainee.exam.split("train")
    found = next(stream(split.lengths, count, trainee.seed, endless=getattr(split, "endless", False)))
    for index in found.tolist():
        yield collate([split[index]]).to(trainee.acc.device)


@torch.no_grad()
def called(trainee: Any, batch: Any) -> None:
    with trainee.acc.autocast():
        trainee.model(batch.tokens, batch.mask)


def calls_of(trainee: Any, modules: Mapping[str, nn.Module]) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Of each of these that is called for one training example what it is called with, and what it gives: last."""
    found: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def see(_: nn.Module, given: tuple[Any, ...], y: Any, name: str) -> None:
        found[name] = given, y

    hooks = [m.register_forward_hook(partial(see, name=name)) for name, m in modules.items()]
    try:
        called(trainee, next(alone(trainee, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def linears(trainee: Any) -> dict[str, nn.Linear]:
    """The linear layers that the model calls as such, by name, in its order. One whose weights alone are read by
    somebody else has no input of its own. Raises ValueError if there are none."""
    known = {name: m for name, m in trainee.model.named_modules() if type(m) is nn.Linear}
    trainee.model.eval()
    met = calls_of(trainee, known)
    found = {name: m for name, m in known.items() if name in met}
    if not found:
        raise ValueError("the model calls no linear layer")
    return found


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """`new` wherever `old` stands."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if child is old:
                setattr(module, name, new)


def weight_bytes(model: nn.Module) -> int:
    """Of all parameters, as they stand."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def covered(model: nn.Module, layers: dict[str, nn.Linear]) -> float:
    """The share of the model's parameters that are weights of these layers."""
    return sum(m.weight.numel() for m in layers.values()) / sum(p.numel() for p in model.parameters())


def in_bits(model: nn.Module, layers: dict[str, nn.Linear], bits: float, more: int = 0) -> int:
    """Bytes of all parameters if the weights of these layers had `bits` each, and `more` bytes of tables."""
    numbers = sum(m.weight.numel() for m in layers.values())
    held = sum(m.weight.numel() * m.weight.element_size() for m in layers.values())
    return weight_bytes(model) - held + int(numbers * bits / 8) + more


def of_linears(trainee: Any, layers: dict[str, nn.Linear]) -> dict[str, Any]:
    """For the facts: how many these layers are, what part of the parameters and of the FLOPs they have, and how many
    times as quick the model would be if they cost nothing."""
    share = linear_share(trainee, layers)
    return {
        "layers": len(layers),
        "covered": covered(trainee.model, layers),
        "linear_flops": share,
        "bound": None if share is None or share == 1 else 1 / (1 - share),
    }


def linear_share(trainee: Any, layers: dict[str, nn.Linear]) -> float | None:
    """Of the FLOPs of one example of full length the share of these layers, counted as lra.measure does; null of a
    model that does not run on the meta device."""
    rows: list[int] = []

    def count(module: nn.Linear, given: tuple[Any, ...], _: Any) -> None:
        rows.append(2 * given[0].numel() * module.out_features)

    def watched(twin: nn.Module) -> None:
        for name in layers:
            twin.get_submodule(name).register_forward_hook(count)

    whole = flops(trainee, watched)
    return sum(rows) / whole if whole else None


def flops(trainee: Any, before: Callable[[nn.Module], Any] = lambda twin: None) -> int | None:
    """Of one example of full length, counted as lra.measure does; null of a model that does not run on the meta device.
    before: is given what is counted."""
    try:
        twin = copy.deepcopy(trainee.model).to("meta").eval()
        batch = trainee.exam.synthetic(1, torch.device("meta"))
        before(twin)
        with counter() as counted, torch.no_grad(), uncompiled():
            twin(batch.tokens, batch.mask)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return counted.get_total_flops()


def share_of(name: str, value: float) -> float:
    """Raises ValueError if it is not in (0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"treatment.{name}: {value!r} is not in (0, 1)")
    return float(value)


def whole(name: str, value: int, least: int, most: int) -> int:
    """Raises ValueError if it is not a whole number between the two."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"treatment.{name}: {value!r} is not a whole number from {least} to {most}")
    return value


def at_least_one(name: str, value: int) -> int:
    """Raises ValueError if it is not a whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"treatment.{name}: {value!r} is not a whole number, 1 or more")
    return value


def steps_of(name: str, value: int) -> int:
    """Raises ValueError if it is not a whole number, 0 or more."""
    return value if value == 0 and not isinstance(value, bool) else at_least_one(name, value)


def rate_of(name: str, value: float) -> float:
    """Raises ValueError if it is not above 0 and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"treatment.{name}: {value!r} is not above 0")
    return float(value)


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Raises ValueError if it is none of them."""
    if value not in allowed:
        raise ValueError(f"treatment.{name}: {value!r} is not one of {', '.join(allowed)}")
    return value
