"""Longformer (Beltagy et al. 2020, arXiv 2004.05150): a sliding window and a few global tokens.

Section 3.1: position i sees j if |i - j| <= d w / 2 and d divides i - j, for a window w (per layer)
and a dilation d (per head). The first `global_tokens` positions see every position and are seen by
every position; their own queries use a second set of projections Q_g, K_g, V_g ("linear projections
for global attention"), which start as copies of the first. Position 0 is the CLS token under
`pooling: cls`. Time O(L (w + G) D), memory O(L D).

K_g and V_g are needed by the G global queries alone, so they are not applied to all L positions:
q_g . (W x) is computed as (W^T q_g) . x, and W is applied to the weighted mean of x, not before it.
That is the same function at G H / D of the cost.

Departures from the paper: the encoder form only, where the paper also has a causal one. From the
official LRA code: it has no global tokens at all (its global mask is never passed), computes a second
full attention and throws it away, masks a dense matrix, and has a window of 255 to the left and 256
to the right; here both sides are w // 2, as in the authors' own code. That one draws the second set
by itself when it builds a model and copies the first over it when it converts RoBERTa; the paper says
that both sets start alike, with no word of pretraining, so here they always do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import groupby

import torch
from torch import Tensor

from lra.models.parts.heads import rotate
from lra.models.parts.pattern import Part, Rule, open_to_all, starts, within
from lra.models.parts.patterned import Patterned
from lra.models.parts.tiles import wide

# Wide tiles make large matrix products, but a tile computes scores that lie outside the window.
WIDEST_TILE, NARROWEST_TILE = 128, 32


class Longformer(Patterned):
    """Sliding window attention with dilation and global tokens.

    window: positions, half on each side; a list has one for each layer (`layer` picks).
    dilation: step between the positions of a window; a list has one for each head.
    Attention weights get `dropout`.

    Raises ValueError for a window < 0, a dilation < 1, a negative number of global tokens, or a list
    that is too short.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
        window: int | Sequence[int] = 512,
        dilation: int | Sequence[int] = 1,
        global_tokens: int = 1,
        layer: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim=qkv_dim, dropout=dropout, rotary=rotary, backend=backend)
        if not isinstance(window, int):
            if layer >= len(window):
                raise ValueError(f"model.mixer.window: {list(window)} has no width for layer {layer}")
            window = window[layer]
        dilation = [dilation] * heads if isinstance(dilation, int) else list(dilation)
        if window < 0:
            raise ValueError(f"model.mixer.window: {window} is not a number of positions, 0 or more")
        if len(dilation) != heads or min(dilation) < 1:
            raise ValueError(f"model.mixer.dilation: {dilation} is not a step of 1 or more for each of {heads} heads")
        if global_tokens < 0:
            raise ValueError(f"model.mixer.global_tokens: {global_tokens} is not a number of tokens, 0 or more")
        self.half, self.dilation, self.global_tokens = window // 2, dilation, global_tokens
        if global_tokens:
            self.query_global, self.key_global, self.value_global = map(deepcopy, (self.query, self.key, self.value))

    def parts(self, length: int) -> list[Part]:
        parts = []
        for step, run in groupby(range(self.heads), key=self.dilation.__getitem__):
            heads = list(run)
            parts.append(self.windows(length, step, (heads[0], heads[-1] + 1)))
        return open_to_all(parts, self.global_tokens, length, rows=False)

    def windows(self, length: int, step: int, heads: tuple[int, int]) -> Part:
        """Tiles of consecutive positions among those `step` apart, and what their windows cover."""
        longest = -(-length // step)
        width = min(max(NARROWEST_TILE, min(self.half, WIDEST_TILE)), longest)
        half = min(self.half, longest - 1)
        start, query, key = starts(length, width, step), torch.arange(width), torch.arange(-half, width + half)
        return Part(
            within(start + query * step, length),
            within(start + key * step, length)[None],
            heads,
            hidden=(query[:, None] - key).abs() > half,
        )

    def state_floats(self, length: int) -> int:
        """Keys and values of a window, and of the global tokens."""
        seen = 2 * self.half * max(self.dilation) + 1 + self.global_tokens
        return super().state_floats(min(length, seen))

    def rule(self, length: int) -> Rule:
        half, first, dilation = self.half, self.global_tokens, torch.tensor(self.dilation)

        def seen(head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            step, apart = dilation.to(head.device)[head], (query - key).abs()
            return (((apart <= half * step) & (apart % step == 0)) | (key < first)) & (query >= first)

        return seen

    def pattern(self, length: int) -> Tensor:
        seen = super().pattern(length).clone()
        seen[:, : self.global_tokens] = True
        return seen

    def finish(self, y: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        if self.global_tokens:
            # The windows leave these rows at zero.
            y[:, : self.global_tokens] += self.out(self.attend_all(x, mask))
        return y

    def attend_all(self, x: Tensor, mask: Tensor) -> Tensor:
        """What the global tokens see: (B, L, D) -> (B, G, H x E)."""
        queries = self.split(self.query_global(x[:, : self.global_tokens]))
        hidden = ~mask[:, None, None]
        if self.rotary or self.global_tokens > self.head_dim:
            keys, values = self.split(self.key_global(x)), self.split(self.value_global(x))
            if self.rotary:
                queries, keys = rotate(queries), rotate(keys)
            scores = queries @ keys.mT
        else:
            key_weight = self.key_global.weight.unflatten(0, (self.heads, -1))
            folded = queries @ key_weight
            scores = (folded.flatten(1, 2) @ x.mT).unflatten(1, (self.heads, -1))
        scores = scores.to(wide(scores.dtype)) / math.sqrt(self.head_dim)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        weights, drops = scores.softmax(-1), self.drops(queries, x.shape[1])
        weights = (drops.of(weights) if drops else weights).to(x.dtype)
        if self.rotary or self.global_tokens > self.head_dim:
            return self.join(weights @ values)
        mean = (weights.flatten(1, 2) @ x).unflatten(1, (self.heads, -1))
        value_weight = self.value_global.weight.unflatten(0, (self.heads, -1))
        return self.join(mean @ value_weight.mT)
