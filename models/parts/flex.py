"""Block patterns on CUDA by PyTorch's compiled `flex_attention`.

The kernel skips the 128 x 128 tiles that a pattern leaves empty and applies the pattern's rule
inside the others (Dong et al. 2024, arXiv 2412.05496). Which tiles those are comes from the same
`Part`s that the portable code computes with, so no L x L mask is ever built: L^2 / 128^2 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from lra.models.parts.pattern import Part, Rule

TILE = 128
# The compiled kernel wants at least this head width.
MIN_WIDTH = 16


@cache
def compiled() -> Callable:
    """`flex_attention`, compiled once a process. Uncompiled it computes all L x L scores."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def flex_ready(device: torch.device, width: int, dtype: torch.dtype, dropout: float) -> bool:
    """True if the compiled kernel can take heads of that width and type and is worth it."""
    return device.type == "cuda" and not dropout and width >= MIN_WIDTH and dtype != torch.float64


def tiles_of(parts: Sequence[Part], heads: int, length: int) -> Tensor:
    """(H, T, T) bool, T = L / 128 rounded up: tiles in which some query may see some key."""
    count = -(-length // TILE)
    found = torch.zeros(heads, count, count, device=parts[0].keys.device)
    for part in parts:
        first, end = part.heads
        queries, keys = (touched(positions, count) for positions in (part.queries, part.keys))
        found[first:end] += torch.einsum("sq,hsk->hqk", queries, keys)
    return found > 0


def touched(positions: Tensor, count: int) -> Tensor:
    """(..., N) positions -> (..., count) float: 1 for the tiles that they lie in."""
    tile = torch.where(positions < 0, count, positions // TILE)
    return positions.new_zeros(*positions.shape[:-1], count + 1).scatter_(-1, tile, 1)[..., :count].float()


def flex_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    rule: Rule,
    parts: Sequence[Part],
    attention: Callable | None = None,
) -> Tensor:
    """Like `blocks.attend` without dropout; `attention` in place of the compiled kernel, for tests.

    Raises ValueError where the kernel cannot run (it has no backward pass on CPUs).
    """
    from torch.nn.attention.flex_attention import BlockMask

    if attention is None and (q.device.type != "cuda" or q.shape[-1] < MIN_WIDTH):
        raise ValueError(
            f"model.mixer.backend: flex needs a CUDA device and heads of width {MIN_WIDTH} or more,"
            f" not {q.device.type} and {q.shape[-1]}; use auto or blocks"
        )
    tiles = tiles_of(parts, q.shape[1], q.shape[2])
    order = tiles.to(torch.int32).argsort(dim=-1, descending=True, stable=True)

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return rule(head, query, key) & mask[batch, key]

    block_mask = BlockMask.from_kv_blocks(
        tiles.sum(-1, dtype=torch.int32)[None],
        order.to(torch.int32)[None],
        BLOCK_SIZE=TILE,
        mask_mod=allowed,
        seq_lengths=(q.shape[2], q.shape[2]),
    )
    q, k, v = (x.to(q.dtype) for x in (q, k, v))
    return (attention or compiled())(q, k, v, block_mask=block_mask)
