"""What mixers share that work through the length in blocks, and compute them again going back.

On CPUs a large fresh temporary costs more in page faults than the arithmetic that fills it, so
these mixers hold one block of positions at a time, in buffers that stay in cache, and keep no
more for the backward pass than fused attention does: q, k, v and the output.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

CPU_BLOCK = 1 << 19  # elements of one buffer: 2 MiB of float32, a core's L2 cache
CUDA_BLOCK = 1 << 26


def budget(device: torch.device) -> int:
    """Elements of one buffer. On the meta device all fits: only shapes are counted there."""
    return {"cpu": CPU_BLOCK, "meta": 1 << 62}.get(device.type, CUDA_BLOCK)


def blocks(length: int, row: int, device: torch.device) -> list[slice]:
    """Cut `length` positions of `row` elements each into slices that fit a buffer."""
    step = min(length, max(16, budget(device) // row))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def tiles(batch: int, length: int, row: int, device: torch.device) -> list[tuple[slice, list[slice]]]:
    """Cut (batch, length) positions of `row` elements each: examples, and the blocks of their length.

    Short examples are taken several at a time, long ones in several blocks.
    """
    together = min(batch, max(1, budget(device) // (row * length)))
    return [
        (slice(start, min(start + together, batch)), blocks(length, row * together, device))
        for start in range(0, batch, together)
    ]


def heads_first(x: Tensor, some: slice, at: slice, dtype: torch.dtype) -> Tensor:
    """A tile of x (B, L, H, E) -> (b H, n, E)."""
    return x[some, at].transpose(1, 2).to(dtype).flatten(0, 1)


def put_back(x: Tensor, some: slice, at: slice, tile: Tensor) -> None:
    """Write (b H, n, E) where `heads_first` took it from."""
    x[some, at] = tile.unflatten(0, (-1, x.shape[2])).transpose(1, 2)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: float32 at least."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Inside, autocast does not narrow what was widened on purpose."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)
