"""Full softmax attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1): the reference line.

Time O(L^2 D). Memory O(L D) where a fused kernel exists (CPU, CUDA), although the time stays
quadratic. No departure from the paper; `causal` is its decoder's mask (section 3.2.3), and `conv_kernel`, which it
does not have, a convolution of each channel of Q, K and V over neighbours (So et al. 2021, arXiv 2109.08668,
section 4; there causal, here to either side by halves): both to see what a model lacks without them. `persistent` are
keys and values that are learned, of each head, and that every query sees besides (Sukhbaatar et al. 2019, arXiv
1907.01470); there they replace the feed-forward layers, which the common stack keeps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead, all_real, zeroed
from lra.models.parts.opened import At
from lra.models.parts.softmax import attend, path
from lra.models.parts.tiles import no_autocast, wide

SEEN = 256  # queries at a time, where it is asked what they attend to
WEIGHTS = 1 << 24  # weights at a time, where they are shown


class FullAttention(MultiHead):
    """softmax(Q K^T / sqrt(E)) V over the real keys, by `scaled_dot_product_attention`.

    persistent: how many learned keys there are besides. Raises ValueError if it is below 0, or not 0 with `causal`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
        bias: bool = False,
        conv_kernel: int | None = None,
        causal: bool = False,
        persistent: int = 0,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, dropout, rotary, bias, conv_kernel, causal)
        if persistent < 0:
            raise ValueError(f"model.mixer.persistent: {persistent} is not 0 or more")
        if persistent and causal:
            raise ValueError(f"model.mixer.persistent: {persistent} is not possible with causal")
        self.persistent_key = self.persistent_value = None
        if persistent:
            shape = (heads, persistent, self.head_dim)
            # Both times the square root of what they are divided by, so that they learn faster.
            self.persistent_key = nn.Parameter(torch.randn(shape) * self.head_dim**-0.5)
            self.persistent_value = nn.Parameter(torch.randn(shape) * persistent**-0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # A weight of zero does not stop a NaN in the padding.
        return super().forward(zeroed(x, mask), mask)

    def path(self, device: torch.device) -> str:
        """Of `softmax.attend`: "fused" or "blocks"."""
        return path(device, self.dropout)

    def attended(self, x: Tensor, mask: Tensor) -> Tensor:
        """The weight that each key gets, a mean over heads and real queries: x (B, L, D) -> (B, L), of sum 1 over the
        real ones and 0 at padding. Raises ValueError if it is causal: a later key is not to blame for fewer queries."""
        if self.causal or self.persistent_key is not None:
            raise ValueError("model.mixer: what a causal query sees, and persistent keys, are not told apart")
        x = zeroed(x, mask)
        q, k = self.queries_and_keys(x, mask)
        gone, total = ~mask[:, None, None, :], 0
        for at in range(0, x.shape[1], SEEN):  # of all queries at once the weights would be L x L
            scores = q[:, :, at : at + SEEN].to(wide(q.dtype)) @ k.to(wide(k.dtype)).mT * self.head_dim**-0.5
            weights = scores.masked_fill(gone, torch.finfo(scores.dtype).min).softmax(-1)
            total = total + weights.masked_fill(~mask[:, None, at : at + SEEN, None], 0).sum(2)
        mean = total.mean(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return mean.masked_fill(~mask, 0)

    def opened(self, x: Tensor, mask: Tensor, at: At, each: bool = False) -> Tensor:
        """See `parts.opened`: keys and values are all that is kept, and `each` changes nothing."""
        x, gone = zeroed(x, mask), ~mask[:, None, :, None]
        q, k = self.queries_and_keys(x, mask)
        parts = q, k, self.split(self.projected("value", x, mask))
        q, k, v = (t.to(wide(t.dtype)).masked_fill(gone, 0) for t in parts)
        length = k.shape[2]
        k, v = self.besides(k, v)
        q, k, v = at("query", q), at("key", k), at("value", v)
        hidden = F.pad(gone.mT, (k.shape[2] - length, 0), value=False)
        rows, out = max(1, WEIGHTS // (q.shape[0] * q.shape[1] * k.shape[2])), []
        with no_autocast(x):
            for first in range(0, length, rows):
                some = slice(first, min(first + rows, length))
                unseen = hidden | gone[:, :, some]
                if self.causal:
                    place = torch.arange(length, device=x.device)
                    unseen = unseen | (place > place[some].unsqueeze(1))
                scores = at("score", (q[:, :, some] @ k.mT * self.head_dim**-0.5).masked_fill(unseen, 0))
                weights = scores.masked_fill(unseen, torch.finfo(scores.dtype).min).softmax(-1)
                out.append(at("answer", at("weight", weights.masked_fill(unseen, 0)) @ v))
        return self.out(self.join(torch.cat(out, 2)).to(x.dtype))

    def besides(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, L, E), and before them those that are learned."""
        if self.persistent_key is None:
            return k, v
        pairs = (self.persistent_key, self.head_dim, k), (self.persistent_value, self.persistent_key.shape[1], v)
        k, v = (torch.cat((own.to(t.dtype).mul(size**0.5).expand(len(t), -1, -1, -1), t), 2) for own, size, t in pairs)
        return k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        keys = None if all_real(mask) else mask[:, None, None, :]
        length = k.shape[2]
        k, v = self.besides(k, v)
        if keys is not None and k.shape[2] > length:
            keys = F.pad(keys, (k.shape[2] - length, 0), value=True)
        return attend(q, k, v, keys, self.drops(q, k.shape[2]), causal=self.causal)
