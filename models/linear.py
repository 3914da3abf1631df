"""Linear Transformer (Katharopoulos et al. 2020, arXiv 2006.16236), bidirectional unless `causal`.

    phi(x) = elu(x) + 1                                                                        (eq. 7)
    out_i = phi(q_i) S / (phi(q_i) z + eps),  S = sum_j phi(k_j) v_j^T,  z = sum_j phi(k_j)    (eq. 5, 6)

Sums run over the real keys; with `causal` over those up to i (eq. 8 to 12). Time O(L E^2) a head. Memory O(L E) for
q, k, v and the output, plus E^2: the features of one block of positions at a time, computed again in the backward
pass. With `causal` both are those of parts.decay: L E Q of time more for chunks of Q, and E^2 a chunk.

Departures from the paper: eps = 1e-6, as its authors' code has it. With rotary positions q and k
are rotated before phi, which keeps the weights positive but makes them depend on more than the
distance. From the official code (spec 4.4): that one ignores padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.decay import decay_attention
from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.opened import At, heads_at, stepped
from lra.models.parts.tiles import heads_first, no_autocast, put_back, tiles, wide

EPS = 1e-6
RELU_SHIFT = 1e-3


class FeatureMap(NamedTuple):
    """An elementwise phi > 0, and its slope as a function of the value of phi."""

    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


FEATURE_MAPS = {
    "elu": FeatureMap(lambda x: F.elu(x).add_(1), lambda phi: phi.clamp(max=1)),
    "relu": FeatureMap(lambda x: x.relu().add_(RELU_SHIFT), lambda phi: (phi > RELU_SHIFT).to(phi.dtype)),
}


class _KernelAttention(torch.autograd.Function):
    """out_i as above for any feature map, with its gradients, a tile at a time.

    Tiles of features are (b H, n, K): examples and heads, positions, features.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, name: str, projection: Tensor | None):
        batch, length, heads, width = q.shape
        dtype = wide(q.dtype)
        w = None if projection is None else projection.to(dtype)
        features = width if w is None else len(w)
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        sums = q.new_zeros(batch, heads, features, width, dtype=dtype)
        totals = q.new_zeros(batch, heads, features, 1, dtype=dtype)
        phi = FEATURE_MAPS[name].phi
        with no_autocast(q):
            for some, cuts in tiles(batch, length, heads * features, q.device):
                total_kv, total_k = sums[some].flatten(0, 1), totals[some].flatten(0, 1)
                for at in cuts:
                    f, vb = phi(_project(k, some, at, w)), heads_first(v, some, at, dtype)
                    if mask is not None:
                        hidden = _hidden(mask, some, at, heads)
                        f, vb = f.masked_fill_(hidden, 0), vb.masked_fill(hidden, 0)
                    total_kv.baddbmm_(f.mT, vb)
                    total_k += f.sum(1).unsqueeze(-1)
                for at in cuts:
                    f = phi(_project(q, some, at, w))
                    put_back(out, some, at, torch.bmm(f, total_kv).div_(torch.bmm(f, total_k).add_(EPS)))
        ctx.name = name
        ctx.save_for_backward(q, k, v, mask, w, sums, totals, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, mask, w, sums, totals, out = ctx.saved_tensors
        batch, length, heads = q.shape[:3]
        dtype, features = sums.dtype, sums.shape[2]
        phi, slope = FEATURE_MAPS[ctx.name]
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        with no_autocast(q):
            for some, cuts in tiles(batch, length, heads * features, q.device):
                total_kv, total_k = sums[some].flatten(0, 1), totals[some].flatten(0, 1)
                d_kv, d_k = torch.zeros_like(total_kv), torch.zeros_like(total_k)
                for at in cuts:
                    f = phi(_project(q, some, at, w))
                    g = heads_first(grad, some, at, dtype) / torch.bmm(f, total_k).add_(EPS)
                    drop = (g * heads_first(out, some, at, dtype)).sum(-1, keepdim=True).neg_()
                    df = torch.bmm(g, total_kv.mT).add_(drop * total_k.mT)
                    d_kv.baddbmm_(f.mT, g)
                    d_k.baddbmm_(f.mT, drop)
                    _put_projected(dq, some, at, df.mul_(slope(f)), w)
                for at in cuts:
                    f, vb = phi(_project(k, some, at, w)), heads_first(v, some, at, dtype)
                    if mask is not None:
                        hidden = _hidden(mask, some, at, heads)
                        f, vb = f.masked_fill_(hidden, 0), vb.masked_fill(hidden, 0)
                    rate = slope(f)  # 0 at padding, as f is
                    put_back(dv, some, at, torch.bmm(f, d_kv))
                    _put_projected(dk, some, at, torch.bmm(vb, d_kv.mT).add_(d_k.mT).mul_(rate), w)
        return dq, dk, dv, None, None, None


def _hidden(mask: Tensor, some: slice, at: slice, heads: int) -> Tensor:
    """Where a tile holds padding: mask (B, L) -> (b H, n, 1)."""
    return ~mask[some, at].repeat_interleave(heads, 0).unsqueeze(-1)


def _project(x: Tensor, some: slice, at: slice, w: Tensor | None) -> Tensor:
    """A tile of x (B, L, H, E) times w (K, E): (b H, n, K); without w, the tile itself."""
    tile = heads_first(x, some, at, wide(x.dtype))
    return tile if w is None else tile @ w.T


def _put_projected(grad: Tensor, some: slice, at: slice, d: Tensor, w: Tensor | None) -> None:
    """Write the gradient of what `_project` was given."""
    put_back(grad, some, at, d if w is None else d @ w)


def kernel_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, name: str, projection: Tensor | None = None
) -> Tensor:
    """Normalised attention with the feature map `name` of x, or of `projection` x.

    q, k, v (B, L, H, E), mask (B, L) or None if all keys are real, projection (K, E), which gets
    no gradient -> (B, L, H, E). Time O(L K E) a head.
    """
    return _KernelAttention.apply(q, k, v, mask, name, projection)


def causal_kernel_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, name: str) -> Tensor:
    """As `kernel_attention`, the keys of a query ending at its own position. Time O(L (Q E + E^2)) a head, in chunks
    of Q: linear attention whose memory does not decay, and that keeps z as one more channel of v."""
    dtype, phi = wide(q.dtype), FEATURE_MAPS[name].phi
    gain = q.new_ones(q.shape[:3], dtype=dtype)
    if mask is not None:
        hidden = ~mask[..., None, None]
        k, v, gain = k.masked_fill(hidden, 0), v.masked_fill(hidden, 0), gain.masked_fill(hidden[..., 0], 0)
    values = F.pad(v.to(dtype), (0, 1), value=1)
    with no_autocast(q):
        sums = decay_attention(phi(q.to(dtype)), phi(k.to(dtype)), values, torch.zeros_like(gain), gain)
    return (sums[..., :-1] / (sums[..., -1:] + EPS)).to(q.dtype)


def kernel_attended(q: Tensor, k: Tensor, mask: Tensor, name: str, projection: Tensor | None = None) -> Tensor:
    """The weight of each key, a mean over heads and real queries: q, k (B, H, L, E), mask (B, L) -> (B, L), 0 at
    padding. Time O(L K E) a head: features of all queries are summed, each over its own normaliser, before they meet
    keys.
    """
    dtype, phi = wide(q.dtype), FEATURE_MAPS[name].phi
    q, k = (phi(x.to(dtype) if projection is None else x.to(dtype) @ projection.to(dtype).T) for x in (q, k))
    gone = ~mask[:, None, :, None]
    q, k = q.masked_fill(gone, 0), k.masked_fill(gone, 0)
    norms = q @ k.sum(2).unsqueeze(-1) + EPS
    seen = (k @ (q / norms).sum(2).unsqueeze(-1)).squeeze(-1)
    return seen.mean(1) / mask.sum(1, keepdim=True).clamp(min=1)


def kernel_opened(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    name: str,
    at: At,
    each: bool,
    projection: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """`kernel_attention`, or the causal one, as `parts.opened` has it: q, k, v (B, L, H, E), mask (B, L) -> as q. The
    state is S, its normaliser z."""
    dtype, phi, gone = wide(q.dtype), FEATURE_MAPS[name].phi, ~mask[..., None, None]
    shown = zip(("query", "key", "value"), (q, k, v), strict=True)
    q, k, v = (heads_at(at, each_name, x.to(dtype).masked_fill(gone, 0)) for each_name, x in shown)
    if projection is not None:
        q, k = q @ projection.to(dtype).T, k @ projection.to(dtype).T
    f = heads_at(at, "query_feature", phi(q).masked_fill(gone, 0))
    g = heads_at(at, "key_feature", phi(k).masked_fill(gone, 0))
    values = F.pad(v, (0, 1), value=1)

    def show(state: Tensor) -> Tensor:
        return torch.cat((at("state", state[..., :-1]), at("total", state[..., -1:])), -1)

    if each or causal:
        sums, state = stepped(f if causal else None, g, values, show if each else lambda state: state)
    else:
        state = show(g.permute(0, 2, 3, 1) @ values.transpose(1, 2))
    if not causal:
        sums = (f.transpose(1, 2) @ state).transpose(1, 2)
    return heads_at(at, "answer", sums[..., :-1] / (sums[..., -1:] + EPS))


class LinearAttention(MultiHead):
    """Attention with phi = elu + 1; see the module. No dropout: there are no weights to drop.

    `conv_kernel` and `causal` as of `FullAttention`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        conv_kernel: int | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, rotary=rotary, conv_kernel=conv_kernel, causal=causal)

    def state_floats(self, length: int) -> int:
        """S and z."""
        return self.heads * self.head_dim * (self.head_dim + 1)

    def attended(self, x: Tensor, mask: Tensor) -> Tensor:
        """As of FullAttention: x (B, L, D) -> (B, L). Raises ValueError if it is causal."""
        if self.causal:
            raise ValueError("model.mixer: what a causal query sees is not told apart")
        q, k = self.queries_and_keys(x, mask)
        return kernel_attended(q, k, mask, "elu")

    def opened(self, x: Tensor, mask: Tensor, at: At, each: bool = False) -> Tensor:
        """See `parts.opened`."""
        q, k = (t.transpose(1, 2) for t in self.queries_and_keys(x, mask))
        v = self.projected("value", x, mask).unflatten(-1, (self.heads, -1))
        with no_autocast(x):
            y = kernel_opened(q, k, v, mask, "elu", at, each, causal=self.causal)
        return self.out(y.to(x.dtype).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        attention = causal_kernel_attention if self.causal else kernel_attention
        return attention(q, k, v, None if all_real(mask) else mask, "elu").transpose(1, 2)
