"""Feature Pyramid Transformer (Zhang et al. 2020, arXiv 2007.09451): three levels of an image that ask each other.

    self      sum_n pi_n softmax_j(q_in . k_jn / sqrt(E)) v_j,  pi = softmax_n(w_n . mean_i q_i)     within a level
    ground    softmax_j(-|q_i - k_j|^2) v_j, q of the finer level, k and v of the coarser             top-down
    render    relu(N(conv_s V) + N(conv Q) * relu(N(W mean K))), Q of the coarser, K and V of the finer   bottom-up

q, k, v are 1 x 1 convolutions; those of `self` are in `mixtures` parts n, its keys and values averaged over 3 x 3 with
stride 2; what grounds ends in a convolution that starts at zero; conv_s has the stride that leads from one level to the
other; N is a norm. What a level is given stands beside what it is, and a 3 x 3 convolution, N and relu bring both back
to D channels. The levels are the image, a half and a quarter of it, by strided convolutions; read out are their means,
side by side. `parts` says which of the three there are. Time O(L^2 D), memory O(L D) where torch has a fused kernel.

Departures: N is a group norm of one group, where the paper has batch norms, by which examples would see each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.pixels import divided, grid_of, tokens_of

LEVELS = 3
PARTS = ("self", "ground", "render")


def normed(*layers: nn.Module, dim: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.GroupNorm(1, dim))


class Within(nn.Module):
    """`self` of the module: (B, D, rows, columns) -> the same."""

    def __init__(self, dim: int, mixtures: int) -> None:
        super().__init__()
        self.mixtures = mixtures
        self.query, self.key, self.value, self.out = (nn.Conv2d(dim, dim, 1) for _ in range(4))
        self.shares = nn.Linear(dim, mixtures, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = tokens_of(self.query(x)), *(tokens_of(averaged(layer(x))) for layer in (self.key, self.value))
        shares = self.shares(q.mean(1)).softmax(-1)  # (B, N)
        q, k = (t.unflatten(2, (self.mixtures, -1)).transpose(1, 2) for t in (q, k))
        v, narrow = v.unsqueeze(1).expand(-1, self.mixtures, -1, -1), q.shape[3]
        # Filled up with zeros to the width of v, for torch's fused kernel wants one.
        q, k = (F.pad(t, (0, v.shape[3] - narrow)) for t in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, scale=narrow**-0.5)
        return self.out(grid_of((y * shares[..., None, None]).sum(1), x.shape[3]))


def averaged(x: Tensor) -> Tensor:
    """Means over 3 x 3 with stride 2, of what is inside the image."""
    return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


class Ground(nn.Module):
    """A finer level asks a coarser one: (B, D, rows, columns), (B, D, fewer, fewer) -> the first's shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Conv2d(dim, dim, 1) for _ in range(4))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        q, k, v = (tokens_of(t).unsqueeze(1) for t in (self.query(fine), self.key(coarse), self.value(coarse)))
        # -|q - k|^2 = [2 q, 1] . [k, -|k|^2] - |q|^2, of which the last is the same for all keys; a column more is kept
        # by torch's fused kernel, a bias with a gradient is not.
        q, k = F.pad(2 * q, (0, 1), value=1.0), torch.cat((k, -k.square().sum(-1, keepdim=True)), -1)
        y = F.scaled_dot_product_attention(q, k, F.pad(v, (0, 1)), scale=1.0)[..., :-1]
        return self.out(grid_of(y.squeeze(1), fine.shape[3]))


class Render(nn.Module):
    """A coarser level is given what a finer one shows: (B, D, rows, columns), (B, D, more, more) -> the first's."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.value = normed(nn.Conv2d(dim, dim, 3, stride, 1), dim=dim)
        self.query = normed(nn.Conv2d(dim, dim, 3, padding=1), dim=dim)
        self.key = normed(nn.Conv2d(dim, dim, 1), dim=dim)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        weight = self.key(fine.mean((2, 3), keepdim=True)).relu()
        return (self.value(fine) + self.query(coarse) * weight).relu()


class Block(nn.Module):
    """One exchange between all levels."""

    def __init__(self, dim: int, mixtures: int, parts: Sequence[str]) -> None:
        super().__init__()
        every = range(LEVELS)
        self.within = nn.ModuleList(Within(dim, mixtures) for _ in every if "self" in parts)
        self.ground = nn.ModuleDict(
            {f"{i}{j}": Ground(dim) for i in every for j in every if i < j and "ground" in parts}
        )
        self.render = nn.ModuleDict(
            {f"{i}{j}": Render(dim, 1 << i - j) for i in every for j in every if j < i and "render" in parts}
        )
        others = [LEVELS - 1 - i for i in every] if "ground" in parts else [0] * LEVELS
        others = [n + i * ("render" in parts) for i, n in enumerate(others)]
        self.back = nn.ModuleList(
            normed(nn.Conv2d(dim * (1 + bool(self.within) + n), dim, 3, padding=1), dim=dim) for n in others
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        out = []
        for i, x in enumerate(levels):
            given = [x, *([self.within[i](x)] if self.within else [])]
            given += [self.ground[f"{i}{j}"](x, y) for j, y in enumerate(levels) if f"{i}{j}" in self.ground]
            given += [self.render[f"{i}{j}"](x, y) for j, y in enumerate(levels) if f"{i}{j}" in self.render]
            out.append(self.back[i](torch.cat(given, 1)).relu())
        return out


class FeaturePyramid(nn.Module):
    """(B, 1, rows, columns) -> (B, 3 D). Raises ValueError for sides that cannot be halved twice, for `mixtures` that
    do not divide D, and for parts that there are not."""

    def __init__(
        self,
        grid: Sequence[int],
        depth: int,
        dim: int,
        dropout: float = 0.0,
        mixtures: int = 2,
        parts: Sequence[str] = PARTS,
    ) -> None:
        super().__init__()
        divided(grid, 1 << LEVELS - 1, "model.stack, its coarsest level,")
        if mixtures < 1 or dim % mixtures:
            raise ValueError(f"model.stack.mixtures: {mixtures} does not divide the width {dim}")
        if not parts or not set(parts) <= set(PARTS):
            raise ValueError(f"model.stack.parts: {list(parts)} are not some of {', '.join(PARTS)}")
        self.width = LEVELS * dim
        self.levels = nn.ModuleList(
            normed(nn.Conv2d(dim if i else 1, dim, 3, 2 if i else 1, 1), dim=dim) for i in range(LEVELS)
        )
        self.blocks = nn.ModuleList(Block(dim, mixtures, parts) for _ in range(depth))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(LEVELS))

    def forward(self, image: Tensor) -> Tensor:
        levels, x = [], image
        for level in self.levels:
            x = level(x).relu()
            levels.append(x)
        for block in self.blocks:
            levels = block(levels)
        kept = (drop(tokens_of(x)) for drop, x in zip(self.dropouts, levels, strict=True))
        return torch.cat([x.mean(1) for x in kept], 1)
