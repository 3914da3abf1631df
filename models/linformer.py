"""Linformer (Wang et al. 2020, arXiv 2006.04768).

    out = softmax(Q (E K)^T / sqrt(width of a head)) (F V)                                    (eq. 7)

E and F are learned, K x L (K is `rank`): an average over the length, so that a query sees K mixed
keys. `sharing` (section 4, "additional efficiency techniques"):

    none        E and F for each head of each layer
    heads       E and F for each layer                                          (headwise)
    key-value   E = F for each layer                                            (key-value)
    layers      one E = F for all layers                                        (layerwise)

Shared over heads, E K = E (x W) is computed as (E x) W, the same by associativity: keys and values
of width D then exist for K rows only. (Not where the input is so short that this is more work.)
Time O(L K D) and memory O(L D), the attention itself fused; parameters O(K max_len), times 2 H
without sharing.

Padding is set to zero before the projection. An input shorter than `max_len` uses the first L
columns of E and F, and so does a longer one with its padding cut: what a column means is fixed to
its position. Longer than `max_len` is not possible. With rotary positions keys are rotated before
they are mixed, so that no score depends on a distance alone.

Departures from the paper: E and F start Xavier-uniform, as in the official code; N(0, 1/K) of
Theorem 2 would give keys of norm sqrt(L / K). From the official code (spec 4.4): there K is always
16, E = F in a layer, and padding is projected too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead, all_real, rotate
from lra.models.parts.softmax import attend, path

SHARINGS = ("none", "heads", "key-value", "layers")


class Linformer(MultiHead):
    """Attention to `rank` learned mixtures of the keys; see the module.

    A rank above `max_len` is cut to it, since more mixtures than positions add nothing. Raises
    ValueError for an unknown sharing, a rank below 1 and, in `forward`, L above `max_len`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
        shared: dict | None = None,
        rank: int = 256,
        sharing: str = "key-value",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, dropout, rotary)
        if sharing not in SHARINGS:
            raise ValueError(f"model.mixer.sharing: {sharing!r} is not one of {', '.join(SHARINGS)}")
        if rank < 1:
            raise ValueError(f"model.mixer.rank: {rank} is not above 0")
        self.rank, self.sharing = min(rank, max_len), sharing
        shape = (heads, self.rank, max_len) if sharing == "none" else (self.rank, max_len)
        common = {} if shared is None else shared
        if sharing == "layers" and "linformer" in common:
            self.mix_keys = common["linformer"]
        else:
            self.mix_keys = nn.Parameter(_xavier(shape))
        if sharing == "layers":
            common["linformer"] = self.mix_keys
        self.mix_values = self.mix_keys if sharing in ("key-value", "layers") else nn.Parameter(_xavier(shape))

    def state_floats(self, length: int) -> int:
        """E K and F V, which grow by a token at a time."""
        return 2 * self.heads * self.head_dim * min(self.rank, length)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        length = x.shape[1]
        if length > self.max_len:
            raise ValueError(f"length {length} is above {self.max_len}, for which Linformer's E and F were built")
        q = self.split(self.query(x))
        if not all_real(mask):
            x = x.masked_fill(~mask[..., None], 0)
        mixed = None
        if self.sharing in ("key-value", "layers") and not self.rotary and not self.projects_first(length, both=True):
            mixed = mixtures(self.mix_keys[:, :length], x)
        k = self._mix(x, self.key, self.mix_keys, mixed, self.rotary)
        v = self._mix(x, self.value, self.mix_values, mixed, False)
        if self.rotary:
            q = rotate(q)
        return self.out(self.join(attend(q, k, v, None, self.drops(q, k.shape[2]))))

    def path(self, device: torch.device) -> str:
        """Of `softmax.attend`: "fused" or "blocks"."""
        return path(device, self.dropout)

    def _mix(self, x: Tensor, project: nn.Module, mix: Tensor, mixed: Tensor | None, turn: bool) -> Tensor:
        """Keys or values of the mixtures: (B, L, D), E or F -> (B, H, K, width of a head)."""
        mix = mix[..., : x.shape[1]]
        if mix.dim() == 3 or turn:  # per head, or position by position, there is nothing to gain
            heads = self.split(project(x))
            return mix @ (rotate(heads) if turn else heads)
        if mixed is None and self.projects_first(x.shape[1]):
            return self.split(mixtures(mix, project(x)))
        return self.split(project(mixtures(mix, x) if mixed is None else mixed))

    def projects_first(self, length: int, both: bool = False) -> bool:
        """Is it less work to project `length` positions than what is mixed of them? both: of what is mixed once for
        keys and values."""
        count, dim, width = 1 + both, self.query.in_features, self.query.out_features
        mixed_first = self.rank * (length * dim + count * dim * width)
        return count * length * width * (dim + self.rank) < mixed_first


def mixtures(mix: Tensor, x: Tensor) -> Tensor:
    """(K, L), (B, L, D) -> (B, K, D), as one product for all examples."""
    return (mix @ x.transpose(0, 1).flatten(1)).unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()


def _xavier(shape: tuple[int, ...]) -> Tensor:
    """Uniform with the variance 2 / (rows + columns)."""
    bound = (6 / (shape[-2] + shape[-1])) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound)
