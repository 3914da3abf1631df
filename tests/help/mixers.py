"""What the tests of scans and convolutions along the length share: masks of every kind, long inputs, shifts, tags."""

from __future__ import annotations

import copy
from collections.abc import Callable
from inspect import Parameter, signature

import torch
from torch import Tensor, nn

from lra.check.subject import difference
from tests.help.paper import Slow, leaves, results, wake

Q = 32  # positions of a chunk
LENGTHS = (1, 2, Q - 1, Q, Q + 1, 3 * Q + 5)


def masks(length: int, seed: int = 0) -> Tensor:
    """(5, L): all real, padding on the right, padding on the left, holes, nothing real."""
    count, place = max(1, length * 2 // 3), torch.arange(length)
    holes = torch.rand(length, generator=torch.Generator().manual_seed(seed)) < 0.6
    rows = (place < length, place < count, place >= length - count, holes, place < 0)
    return torch.stack(rows)


def defaults(cls: type) -> dict[str, object]:
    """What a mixer is where nothing is said, apart from the facts that it is always handed."""
    given = {n: p.default for n, p in signature(cls).parameters.items()}
    return {n: v for n, v in given.items() if v is not Parameter.empty}


def tagged(layer: nn.Module) -> dict[str, dict[str, float]]:
    """What each parameter asks of the optimizer, of those that ask."""
    return {name: p.lra for name, p in layer.named_parameters() if hasattr(p, "lra")}


def assert_twin(
    layer: nn.Module,
    slow: Slow,
    dim: int,
    length: int,
    *,
    single: float = 1e-5,
    double: float = 1e-11,
    tiny: float = 0.1,
    awake: float = 0.2,
) -> None:
    """`layer`, moved from where it starts, in float32 and in float64 against `slow` (w, x, mask) in float64, which is
    given zeros at padding: output and each gradient apart by the audit's measure, under every kind of mask.

    What cancels (a gradient through a single key, say) is held to `tiny` of the largest instead.
    """
    wake(layer, by=awake)
    mask, w, names = masks(length), leaves(layer), [name for name, _ in layer.named_parameters()]
    x = torch.randn(len(mask), length, dim, generator=torch.Generator().manual_seed(length))

    def found(run: Callable[[Tensor], Tensor], dtype: torch.dtype, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        leaf = x.to(dtype).requires_grad_()
        gone = ~mask[..., None]
        return results(run(leaf).masked_fill(gone, 0), ~gone, {"x": leaf} | parameters)

    exact = found(lambda x: slow(w, x.masked_fill(~mask[..., None], 0), mask), torch.float64, {n: w[n] for n in names})
    least = tiny * max(float(t.detach().abs().max()) for t in exact.values())
    for module, dtype, bound in (
        (layer, torch.float32, single),
        (copy.deepcopy(layer).double(), torch.float64, double),
    ):
        ours = found(lambda x, module=module: module(x, mask), dtype, dict(module.named_parameters()))
        for what, expected in exact.items():
            expected = expected.detach()
            most = float(expected.abs().max())
            error = difference(ours[what].detach().double(), expected) * most / max(most, least, 1e-12)
            assert error < bound, f"{what}: {error:.1e} in {dtype} at {length}"


def assert_long(layer: nn.Module, dim: int, length: int = 16_384, bound: float = 1e-5) -> None:
    """float32 against float64 from the same numbers, output and each gradient by the audit's measure."""
    x, back = torch.randn(2, 1, length, dim, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(1, length, dtype=torch.bool)
    found = []
    for one, dtype in ((layer, torch.float32), (copy.deepcopy(layer).double(), torch.float64)):
        leaf = x.to(dtype).requires_grad_()
        y = one(leaf, mask)
        wanted = {"x": leaf, **dict(one.named_parameters())}
        grads = torch.autograd.grad(y, list(wanted.values()), back.to(dtype))
        found.append({"output": y.detach()} | dict(zip(wanted, grads, strict=True)))
    for name, exact in found[1].items():
        error = difference(found[0][name].double(), exact)
        assert error < bound, f"{name}: {error:.1e}"


def assert_shifts(layer: nn.Module, dim: int, length: int = 40, by: int = 17) -> None:
    """The same tokens further to the right, under a mask, move the output as far."""
    x = torch.randn(1, length, dim, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    layer = copy.deepcopy(layer).double()
    wide, mask = torch.full((1, length + by + 9, dim), 5.0, dtype=torch.float64), torch.zeros(1, length + by + 9)
    wide[:, by : by + length], mask[:, by : by + length] = x, 1
    moved = layer(wide, mask.bool())[:, by : by + length]
    torch.testing.assert_close(moved, layer(x, torch.ones(1, length, dtype=torch.bool)), rtol=0, atol=1e-11)


def assert_reverses(layer: nn.Module, dim: int, swap: Callable[[nn.Module], None], length: int = 37) -> None:
    """With its two directions exchanged by `swap`, the layer of a reversed input gives the reversed output."""
    x = torch.randn(2, length, dim, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    mask = masks(length)[[0, 3]]
    layer, other = copy.deepcopy(layer).double(), copy.deepcopy(layer).double()
    with torch.no_grad():
        swap(other)
    y, again = layer(x, mask), other(x.flip(1), mask.flip(1)).flip(1)
    torch.testing.assert_close(again[mask], y[mask], rtol=0, atol=1e-11)
    assert not torch.allclose(layer(x.flip(1), mask.flip(1)).flip(1)[mask], y[mask], atol=1e-3), "both are alike"


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages that a graph keeps for its backward pass."""
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = run()
    assert y.requires_grad
    return sum(kept.values())
