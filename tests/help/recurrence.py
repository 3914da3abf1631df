"""Recurrences with a matrix for a memory, a step at a time: what the chunked ones are held against.

Shapes are those of the fast forms: q, k (B, L, H, E), v (B, L, H, P), log decays a and gains b (B, L, H).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Core = Callable[..., Tensor]
LENGTHS = (1, 2, 63, 64, 65, 197)  # around a chunk of 64, and three of them and a piece


def remembered(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, reverse=False, diagonal=True) -> Tensor:
    """S <- exp(a) S + b k v^T, y = q^T S, or that of the S before b k v^T comes in; a may be (B, L, H, E)."""
    order = range(q.shape[1])
    memory, read = q.new_zeros(*q.shape[:1], v.shape[2], q.shape[3], v.shape[3]), {}
    a = a if a.dim() == 4 else a.unsqueeze(-1)
    for t in reversed(order) if reverse else order:
        memory = a[:, t].exp().unsqueeze(-1) * memory
        written = memory + (b[:, t, :, None] * k[:, t]).unsqueeze(-1) * v[:, t].unsqueeze(-2)
        read[t] = (q[:, t].unsqueeze(-1) * (written if diagonal else memory)).sum(-2)
        memory = written
    return torch.stack([read[t] for t in order], 1)


def corrected(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, reverse=False) -> Tensor:
    """S <- exp(a) S, then S <- S + b k (v - S^T k)^T, y = q^T S: the delta rule as an error that is corrected."""
    order = range(q.shape[1])
    memory, read = q.new_zeros(*q.shape[:1], *q.shape[2:], v.shape[3]), {}
    for t in reversed(order) if reverse else order:
        memory = a[:, t, :, None, None].exp() * memory
        error = v[:, t] - torch.einsum("bhep,bhe->bhp", memory, k[:, t])
        memory = memory + torch.einsum("bh,bhe,bhp->bhep", b[:, t], k[:, t], error)
        read[t] = torch.einsum("bhep,bhe->bhp", memory, q[:, t])
    return torch.stack([read[t] for t in order], 1)


def rewritten(q: Tensor, a: Tensor, k: Tensor, v: Tensor, z: Tensor, b: Tensor, reverse=False) -> Tensor:
    """S <- exp(a) * S + b (S^T z)^T + k v^T, the S that is read as it was before, y = q^T S; a, z, b (B, L, H, E)."""
    order = range(q.shape[1])
    memory, read = q.new_zeros(*q.shape[:1], *q.shape[2:], v.shape[3]), {}
    for t in reversed(order) if reverse else order:
        seen = torch.einsum("bhep,bhe->bhp", memory, z[:, t])
        memory = a[:, t].exp().unsqueeze(-1) * memory
        memory = memory + torch.einsum("bhe,bhp->bhep", b[:, t], seen) + torch.einsum("bhe,bhp->bhep", k[:, t], v[:, t])
        read[t] = torch.einsum("bhep,bhe->bhp", memory, q[:, t])
    return torch.stack([read[t] for t in order], 1)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, reverse: bool = False, silu: bool = True
) -> Tensor:
    """The depthwise convolution over this and the last positions, the next ones if `reverse`, and then silu."""
    taps = weight.shape[1]
    padded = F.pad(x.mT, (0, taps - 1) if reverse else (taps - 1, 0))
    kernel = weight if reverse else weight.flip(1)
    y = F.conv1d(padded, kernel.unsqueeze(1), bias, groups=x.shape[2]).mT
    return y / (1 + (-y).exp()) if silu else y


def masks(length: int, seed: int = 0) -> Tensor:
    """(5, L): full, padding on the right, on the left, holes, nothing real."""
    mask = torch.ones(5, length, dtype=torch.bool)
    mask[1, (length + 1) // 2 :] = False
    mask[2, : length // 3] = False
    mask[3] = torch.rand(length, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[4] = False
    return mask


def found(core: Core, inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """What `core` gives, and the gradients of a fixed function of it, of inputs as they are in `dtype`."""
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
    y = core(*leaves)
    back = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)
    gradients = torch.autograd.grad(y, leaves, back, materialize_grads=True)
    assert all(torch.equal(x.detach(), given.to(dtype)) for x, given in zip(leaves, inputs, strict=True))
    return [y.detach(), *gradients]


def assert_core(
    fast: Core, slow: Core, inputs: list[Tensor], single: float = 1e-5, double: float = 1e-11, tiny: float = 1e-6
) -> None:
    """`fast` in float32 and in float64 against `slow` in float64: outputs and each gradient, by the largest error.

    Relative to the largest of each; to `tiny` of the largest of all where there is only what cancels.
    """
    exact = found(slow, inputs, torch.float64)
    floor = tiny * max(float(x.abs().max()) for x in exact)
    for dtype, bound in ((torch.float32, single), (torch.float64, double)):
        for index, (x, y) in enumerate(zip(found(fast, inputs, dtype), exact, strict=True)):
            assert x.dtype == dtype and torch.isfinite(x).all()
            error = float((x.double() - y).abs().max()) / max(float(y.abs().max()), floor, 1e-12)
            assert error < bound, f"{f'gradient {index}' if index else 'output'}: {error:.1e} in {dtype}"


def assert_as_without_autocast(core: Core, inputs: list[Tensor]) -> None:
    """Forward and backward of float32 inputs, to the bit."""
    exact = found(core, inputs, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        again = found(core, inputs, torch.float32)
    assert all(map(torch.equal, again, exact))


def kept(run: Callable[[], Tensor]) -> int:
    """Numbers that autograd keeps of what `run` does, each tensor once."""
    found: dict[tuple[int, int], int] = {}

    def pack(x: Tensor) -> Tensor:
        found[x.data_ptr(), x.numel()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return sum(found.values())


def compacted(layer: torch.nn.Module, x: Tensor, mask: Tensor) -> list[Tensor]:
    """What `layer` makes of the real tokens of each row alone, put together without holes; nothing of none."""
    rows = [row[real][None] for row, real in zip(x, mask, strict=True)]
    return [layer(row, mask.new_ones(row.shape[:2]))[0] if row.numel() else row[0] for row in rows]


def recurrent(
    slow: Callable[[dict[str, Tensor], Tensor, Tensor], Tensor],
) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    """`slow` (w, x, mask) of a layer, given x with zeros at padding."""
    return lambda w, x, mask: slow(w, x.masked_fill(~mask.unsqueeze(-1), 0), mask)
