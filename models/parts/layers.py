"""The way through the layers of a stack, with padding or without.

Outside of its mixers a stack does to each position what it does to any other. So what stands between two mixers may be
given the T real tokens of a batch in a row, as one example (1, T, D), while each mixer is given all positions and the
mask as ever, with zeros at padding (as ByteDance's Effective Transformer does around attention; Zhai et al. 2023,
ByteTransformer, arXiv 2210.03052, section III.D). In place of the mask such layers are handed a `Packing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from lra.models.parts.heads import all_real


class Packing(NamedTuple):
    """mask (B, L), and the place (T,) of each real token among the B L positions, int64."""

    mask: Tensor
    places: Tensor


Mask = Tensor | Packing


def packing(mask: Tensor, wanted: bool) -> Mask:
    """mask (B, L) itself where no packing is wanted, or nothing is hidden."""
    return Packing(mask, mask.flatten().nonzero().squeeze(1)) if wanted and not all_real(mask) else mask


def row(x: Tensor, at: Mask) -> Tensor:
    """x (B, L, D) -> its real tokens (1, T, D), where they are packed."""
    return x if isinstance(at, Tensor) else x.flatten(0, 1)[at.places].unsqueeze(0)


def whole(x: Tensor, at: Mask) -> tuple[Tensor, Tensor]:
    """What `row` gives -> x (B, L, D), with zeros at padding where tokens are packed, and the mask (B, L)."""
    if isinstance(at, Tensor):
        return x, at
    out = x.new_zeros(at.mask.numel(), x.shape[-1]).index_copy_(0, at.places, x.squeeze(0))
    return out.unflatten(0, at.mask.shape), at.mask


def mixed(mixer: nn.Module, x: Tensor, at: Mask, **beside: Tensor) -> Tensor:
    """mixer(x, mask), of all positions, whether x and what else it takes of each position are packed or not."""
    return row(mixer(*whole(x, at), **{name: whole(y, at)[0] for name, y in beside.items()}), at)


def through(
    layers: Iterable[nn.Module],
    x: Tensor,
    mask: Tensor,
    again: bool,
    packs: bool = False,
    last: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """x (B, L, D) after all layers and `last`, which looks at each position alone. again: what a layer keeps is
    computed again in the backward pass (Chen et al. 2016, arXiv 1604.06174). packs: real tokens are packed."""
    at = packing(mask, packs)
    x = row(x, at)
    for layer in layers:
        x = recompute(layer, x, at, use_reentrant=False) if again else layer(x, at)
    return whole(x if last is None else last(x), at)[0]


def stacked(stack: nn.Module, x: Tensor, mask: Tensor, last: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """`through` the layers of a stack, as it has them: `checkpoint` where it trains, `packs` where it does not."""
    again, packs = stack.checkpoint and stack.training, stack.packs and not stack.training
    return through(stack.layers, x, mask, again, packs, last)
