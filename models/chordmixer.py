"""ChordMixer: rotations of the channels by powers of two, and a network at every position (Khalitov et al. 2023, arXiv
2206.05852).

The D channels are J + 1 tracks, J = ceil(log2 max_len). Track 0 stays, track i is rotated by 2^(i-1) positions: what
lies that far ahead comes here. A layer is

    y = norm'(x + rotate(MLP(norm(x))))

and after J of them every position has heard of every other, so that the depth is J, whatever `depth` says. A rotation
goes round the n real tokens of an example, in their order: what is published rotates the padded length, or takes
examples one by one. A hole in the mask is deleted.

Time O(L D mlp_dim J), memory O(L D J). norm and norm' are LayerNorm; published was BatchNorm for norm' (its text) or
for both (its pixels), which sees other examples (parts.norms). Departure: tracks are as even as D allows, not D a
multiple of their number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lra.models.parts.heads import all_real, real_first
from lra.models.parts.layers import Mask, mixed, stacked
from lra.models.parts.norms import BatchNorm, normed, refuse_recomputed
from lra.models.stack import FeedForward

BATCHNORM = (False, "behind", True)


def levels(max_len: int) -> int:
    """J: the least with 2^J >= max_len, but 1 at least."""
    return max(1, (max_len - 1).bit_length())


class Rotation(nn.Module):
    """The mixer, (B, L, D), (B, L) -> (B, L, D), without parameters.

    Raises ValueError for a width below the number of tracks.
    """

    def __init__(self, dim: int, max_len: int) -> None:
        super().__init__()
        count = levels(max_len) + 1
        if dim < count:
            raise ValueError(f"size.dim: {dim} is below the {count} tracks that a length of {max_len} needs")
        self.shifts = [0, *(2**i for i in range(count - 1))]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        tracks = x.tensor_split(len(self.shifts), dim=-1)
        if all_real(mask):
            return torch.cat([t.roll(-s, 1) for t, s in zip(tracks, self.shifts, strict=True)], dim=-1)
        order, rank, count = real_first(mask), mask.cumsum(1) - 1, mask.sum(1, keepdim=True).clamp(min=1)
        own = torch.arange(x.shape[1], device=x.device)
        moved = []
        for track, shift in zip(tracks, self.shifts, strict=True):
            source = torch.where(mask, order.gather(1, (rank + shift) % count), own)
            moved.append(track.gather(1, source.unsqueeze(-1).expand_as(track)))
        return torch.cat(moved, dim=-1)


class ChordLayer(nn.Module):
    """norm'(x + rotate(MLP(norm(x))))."""

    def __init__(self, rotation: nn.Module, dim: int, mlp_dim: int, dropout: float, batchnorm: bool | str) -> None:
        super().__init__()
        self.mlp_norm, self.norm = (
            BatchNorm(dim) if batch else nn.LayerNorm(dim, eps=1e-6) for batch in (batchnorm is True, batchnorm)
        )
        self.mlp, self.mixer = FeedForward(dim, mlp_dim, dropout), rotation

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        return normed(self.norm, x + mixed(self.mixer, self.mlp(normed(self.mlp_norm, x, mask)), mask), mask)


class ChordStack(nn.Module):
    """J layers around `mixer`, which is built as of the common stack: (B, L, D), (B, L) -> (B, L, D).

    batchnorm: of both norms, or `behind`, of norm' alone. Raises ValueError for another word, and with `checkpoint`.
    """

    packs = False

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        dim: int,
        mlp_dim: int,
        max_len: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
        batchnorm: bool | str = False,
    ) -> None:
        super().__init__()
        if batchnorm not in BATCHNORM:
            raise ValueError(f"model.stack.batchnorm: {batchnorm!r} is not one of false, behind, true")
        refuse_recomputed(bool(batchnorm), checkpoint)
        depth, shared = levels(max_len), {}
        self.layers = nn.ModuleList(
            ChordLayer(mixer(layer=i, shared=shared), dim, mlp_dim, dropout, batchnorm) for i in range(depth)
        )
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return stacked(self, x, mask)
