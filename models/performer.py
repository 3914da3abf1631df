"""Performer: FAVOR+ attention (Choromanski et al. 2021, arXiv 2009.14794).

Softmax kernel (Lemma 1), with w_1..w_K random and E the head width:

    exp(q k / sqrt(E)) = E_w[ phi_w(q) phi_w(k) ],   phi_w(x) = exp(w x' - |x'|^2 / 2),   x' = x / E^(1/4)
    out_i = sum_j phi(q_i) phi(k_j) v_j / sum_j phi(q_i) phi(k_j)

The w are rows of orthogonal blocks with the norms of Gaussian vectors (section 2.4), a buffer drawn
from the seed; `hyperbolic` takes them in pairs w, -w (the cosh form of Lemma 1). The ReLU kernel
(generalised attention, section 2.2; eq. 5 with f = relu and h = 1) is phi(x) = relu(w x) + 0.001.

What scales the input or all features of the ReLU kernel by c, as 1 / sqrt(K) in eq. 5, cancels in
out_i: relu(c w x) = c relu(w x). All that it can change is what the shift, which is not in the paper,
weighs beside them. The authors' JAX code scales nothing unless asked to, which is what is done here;
their TensorFlow code takes w x / sqrt(K) before the ReLU and adds the same 0.001, a shift sqrt(K) times
ours.

Computed in a form that cannot under- or overflow, as two softmaxes, equal in exact arithmetic:

    x_mj = w_m k_j' - |k_j'|^2 / 2,   b_m = log sum_j exp(x_mj),   u_m = sum_j exp(x_mj - b_m) v_j
    out_i = sum_m softmax_m(w_m q_i' + b_m) u_m

Each feature has a maximum of its own over the real keys of its own example, and each query one
over the features, in place of one stabiliser for all keys: neither padding nor the batch can move
it, and no constant has to be added to the features to keep the denominator from 0.

Time O(L K E) a head. Memory O(L E) for q, k, v and the output as for fused attention, plus K E:
features exist for one block of positions at a time, in float32 whatever the type of x, and are
computed again in the backward pass.

Departures from the paper: the stabilisers above; the padding is left out of the sums.
From the official code (spec 4.4): there Performer is, but for ListOps, deterministic relu(x) + 0.001
without a projection, for ListOps softmax with 2 features; it ignores padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lra.models.linear import kernel_attended, kernel_attention, kernel_opened
from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.opened import At
from lra.models.parts.redrawn import Redrawn
from lra.models.parts.tiles import heads_first, no_autocast, put_back, tiles, wide

KERNELS = ("softmax", "relu")
HIDDEN = -1e30  # a logit of what is masked; finite, so that a block without real keys is no NaN
# Exponents are cut off below: e^-40 of the largest is beneath the rounding of float64, and e^-80,
# say, times a small gradient is a denormal number, on which a matrix product is 20 times slower.
FLOOR = -40.0


def orthogonal_gaussian(rows: int, width: int, generator: torch.Generator | None) -> Tensor:
    """(rows, width): blocks of `width` orthogonal rows, each row with the norm of a Gaussian one.

    Section 2.4. Rows of one block are uniform on the sphere and exactly orthogonal; blocks, and
    the norms, are independent.
    """
    device = None if generator is None else "cpu"

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=device)

    made = []
    for _ in range(0, rows, width):
        q, r = torch.linalg.qr(normal(width, width))
        made.append((q * r.diagonal().sign()).T)  # without the signs Q is not uniform
    norms = normal(rows, width).norm(dim=1, keepdim=True)
    return (torch.cat(made)[:rows] * norms).float()


class _SoftmaxKernel(torch.autograd.Function):
    """The two softmaxes of the module's docstring and their gradients, a tile at a time.

    Tiles of logits are (b H, n, K): examples and heads, positions, features.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, projection: Tensor) -> Tensor:
        """q, k, v (B, L, H, E); mask (B, L) or None; projection (K, E) -> (B, L, H, E)."""
        batch, length, heads, width = q.shape
        features, dtype = len(projection), wide(q.dtype)
        w = (projection.to(dtype) * width**-0.25).contiguous()
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        offsets = q.new_empty(batch, heads, 1, features, dtype=dtype)
        values = q.new_empty(batch, heads, features, width, dtype=dtype)
        with no_autocast(q):
            for some, cuts in tiles(batch, length, heads * features, q.device):
                offset, u = offsets[some].flatten(0, 1), values[some].flatten(0, 1)
                peak, total = torch.full_like(offset, HIDDEN), torch.zeros_like(offset)
                u.zero_()
                for _, x, _, norm, vb in _keys(k, v, mask, some, cuts, w):
                    higher = torch.maximum(peak, x.sub_(norm).amax(1, keepdim=True))
                    shrink = (peak - higher).exp_()
                    x.sub_(higher).clamp_(min=FLOOR).exp_()
                    total.mul_(shrink).add_(x.sum(1, keepdim=True))
                    u.mul_(shrink.mT).baddbmm_(x.mT, vb)
                    peak = higher
                u.div_(total.mT)
                torch.add(peak, total.log_(), out=offset)
                for at, y, _ in _queries(q, some, cuts, w):
                    put_back(out, some, at, torch.bmm(torch.softmax(y.add_(offset), dim=-1), u))
        ctx.save_for_backward(q, k, v, mask, w, offsets, values, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, mask, w, offsets, values, out = ctx.saved_tensors
        batch, length, heads, width = q.shape
        dtype = w.dtype
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        with no_autocast(q):
            for some, cuts in tiles(batch, length, heads * len(w), q.device):
                offset, u = offsets[some].flatten(0, 1), values[some].flatten(0, 1)
                du, doffset = torch.zeros_like(u), torch.zeros_like(offset)
                for at, y, _ in _queries(q, some, cuts, w):
                    p = torch.softmax(y.add_(offset), dim=-1)
                    g = heads_first(grad, some, at, dtype)
                    mean = (g * heads_first(out, some, at, dtype)).sum(-1, keepdim=True)
                    dy = torch.bmm(g, u.mT, out=y).sub_(mean).mul_(p)
                    du.baddbmm_(p.mT, g)
                    doffset += dy.sum(1, keepdim=True)
                    put_back(dq, some, at, dy @ w)
                doffset -= (du * u).sum(-1).unsqueeze(1)
                for at, x, kb, norm, vb in _keys(k, v, mask, some, cuts, w):
                    a = x.sub_(norm).sub_(offset).clamp_(min=FLOOR).exp_()
                    put_back(dv, some, at, torch.bmm(a, du))
                    dx = torch.bmm(vb, du.mT).add_(doffset).mul_(a)
                    own = kb.clone() if _shared(kb, k) else kb
                    through_norm = own.mul_(dx.sum(-1, keepdim=True).mul_(width**-0.5))
                    put_back(dk, some, at, (dx @ w).sub_(through_norm))
        return dq, dk, dv, None, None


def _queries(
    x: Tensor, some: slice, cuts: list[slice], w: Tensor, mask: Tensor | None = None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Per block of x (B, L, H, E): where it is, x w^T (b H, n, K) in one buffer for all, x (b H, n, E).

    What the mask hides is 0.
    """
    buffer = None
    for at in cuts:
        tile = heads_first(x, some, at, w.dtype)
        if mask is not None:
            tile = tile.masked_fill(_hidden(mask[some, at], x.shape[2]), 0)
        rows = tile.reshape(-1, tile.shape[-1])
        if buffer is None:
            buffer = w.new_empty(len(rows), len(w))
        logits = torch.mm(rows, w.T, out=buffer[: len(rows)])
        yield at, logits.view(*tile.shape[:2], -1), tile


def _keys(
    k: Tensor, v: Tensor, mask: Tensor | None, some: slice, cuts: list[slice], w: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
    """As `_queries`, and what to take off the logits, |k'|^2 / 2 (b H, n, 1), and v (b H, n, E).

    What the mask hides has a norm that takes its weight to nothing, and v = 0.
    """
    for at, x, kb in _queries(k, some, cuts, w, mask):
        norm = kb.square().sum(-1, keepdim=True).mul_(0.5 * k.shape[-1] ** -0.5)
        vb = heads_first(v, some, at, w.dtype)
        if mask is not None:
            hidden = _hidden(mask[some, at], k.shape[2])
            norm, vb = norm.masked_fill_(hidden, -HIDDEN), vb.masked_fill(hidden, 0)
        yield at, x, kb, norm, vb


def _shared(tile: Tensor, x: Tensor) -> bool:
    """Is a tile a view of what it was taken from? With one head and no padding it is, and not to be written to."""
    return tile.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def _hidden(mask: Tensor, heads: int) -> Tensor:
    """(b, n) -> (b H, n, 1), True at padding."""
    return ~mask.repeat_interleave(heads, 0).unsqueeze(-1)


class Performer(MultiHead, Redrawn):
    """FAVOR+ over the real keys; see the module.

    features    K, the number of random features
    kernel      "softmax" or "relu"
    hyperbolic  features in pairs w, -w (softmax only; K is even)
    redraw      "never", or the number of training steps after which the features are drawn anew

    No dropout: there are no attention weights to drop. Raises ValueError for other values.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        features: int = 256,
        kernel: str = "softmax",
        hyperbolic: bool = False,
        redraw: str | int = "never",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, rotary=rotary)
        if kernel not in KERNELS:
            raise ValueError(f"model.mixer.kernel: {kernel!r} is not one of {', '.join(KERNELS)}")
        if features < 1:
            raise ValueError(f"model.mixer.features: {features} is not above 0")
        if hyperbolic and (kernel != "softmax" or features % 2):
            raise ValueError("model.mixer.hyperbolic: needs the softmax kernel and an even number of features")
        self.features, self.kernel, self.hyperbolic = features, kernel, hyperbolic
        self.start_drawing(redraw)

    def draw(self, generator: torch.Generator | None) -> None:
        rows = self.features // 2 if self.hyperbolic else self.features
        w = orthogonal_gaussian(rows, self.head_dim, generator)
        self.set_drawn("projection", torch.cat((w, -w)) if self.hyperbolic else w)

    def state_floats(self, length: int) -> int:
        """u and b, or the sums of the ReLU kernel."""
        return self.heads * self.features * (self.head_dim + 1)

    def attended(self, x: Tensor, mask: Tensor) -> Tensor:
        """As of FullAttention: x (B, L, D) -> (B, L). Time O(L K E): of all queries each feature's share is summed
        first, then what of it is each key's."""
        q, k = self.queries_and_keys(x, mask)
        if self.kernel == "relu":
            return kernel_attended(q, k, mask, "relu", self.projection)
        dtype, gone = wide(q.dtype), ~mask[:, None, :, None]
        w = self.projection.to(dtype)
        q, k = (y.to(dtype) * self.head_dim**-0.25 for y in (q, k))
        logits = (k @ w.T - k.square().sum(-1, keepdim=True) / 2).masked_fill(gone, HIDDEN)
        total = logits.logsumexp(2, keepdim=True)
        shares = (q @ w.T + total).softmax(-1).masked_fill(gone, 0).sum(2)
        of_each = (logits - total).exp().masked_fill(gone, 0) @ shares.unsqueeze(-1)
        return of_each.squeeze(-1).mean(1) / mask.sum(1, keepdim=True).clamp(min=1)

    def opened(self, x: Tensor, mask: Tensor, at: At, each: bool = False) -> Tensor:
        """See `parts.opened`. Of the softmax kernel u is the state and b its normaliser, features are what each of the
        two softmaxes multiplies with, and a token at a time

            b <- log(exp(b) + exp(x_j)),   u <- u + exp(x_j - b) (v_j - u)
        """
        q, k = self.queries_and_keys(x, mask)
        v = self.split(self.projected("value", x, mask))
        if self.kernel == "relu":
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            with no_autocast(x):
                y = kernel_opened(q, k, v, mask, "relu", at, each, self.projection).transpose(1, 2)
        else:
            dtype, gone = wide(q.dtype), ~mask[:, None, :, None]
            shown = zip(("query", "key", "value"), (q, k, v), strict=True)
            with no_autocast(x):
                y = self._opened(*(at(name, t.to(dtype).masked_fill(gone, 0)) for name, t in shown), gone, at, each)
        return self.out(self.join(y.to(x.dtype)))

    def _opened(self, q: Tensor, k: Tensor, v: Tensor, gone: Tensor, at: At, each: bool) -> Tensor:
        """q, k, v (B, H, L, E), gone (B, 1, L, 1) -> (B, H, L, E)."""
        w = self.projection.to(q.dtype)
        q, k = (t * self.head_dim**-0.25 for t in (q, k))
        logits = (k @ w.T - k.square().sum(-1, keepdim=True) / 2).masked_fill(gone, HIDDEN).mT
        if each:
            u, b = v.new_zeros(*logits.shape[:3], v.shape[-1]), logits.new_full((*logits.shape[:3], 1), HIDDEN)
            for t in range(v.shape[2]):
                x, there = logits[..., t : t + 1], ~gone[:, :, t : t + 1]
                more = torch.logaddexp(b, x)
                share = at("key_feature", (x - more).exp().masked_fill(~there, 0).mT).mT
                b = torch.where(there, at("total", more.masked_fill(~there, 0)), b)
                u = torch.where(there, at("state", u + share * (v[:, :, t : t + 1] - u)), u)
        else:
            total = logits.logsumexp(-1, keepdim=True)
            features = at("key_feature", (logits - total).exp().masked_fill(gone.mT, 0).mT)
            u, b = at("state", features.mT @ v), at("total", total)
        features = at("query_feature", (q @ w.T + b.mT).softmax(-1).masked_fill(gone, 0))
        return at("answer", features @ u)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        keys = None if all_real(mask) else mask
        if self.kernel == "softmax":
            return _SoftmaxKernel.apply(q, k, v, keys, self.projection).transpose(1, 2)
        return kernel_attention(q, k, v, keys, "relu", self.projection).transpose(1, 2)
