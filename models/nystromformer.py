"""Nyströmformer (Xiong et al. 2021, arXiv 2102.03902).

    F = softmax(Q K~^T / sqrt(E)),  A = softmax(Q~ K~^T / sqrt(E)),  B = softmax(Q~ K^T / sqrt(E))
    out = F Z (B V) + conv(V),      Z ~ A^+                                          (eq. 13, algorithm 1)

Q~ and K~ (K rows, `landmarks`) are means over segments of the sequence. Z comes from `iterations`
steps of the third-order method of section 3.2 (eq. 14, 15):

    Z_0 = A^T / (|A|_1 |A|_inf),   Z_{j+1} = Z_j (13 I - A Z_j (15 I - A Z_j (7 I - A Z_j))) / 4

conv is a depthwise convolution over the length, one kernel a head (`conv_kernel`, 35 in the paper's
LRA runs; null for none).

Segments are cut in the real tokens: token r of n goes to segment floor(r K / n), so that landmarks
depend neither on the padding nor on where it stands. With fewer tokens than landmarks each token is
one, the others are left out, and the result is that of full attention, as far as Z is A^+. There are
never more than the longest example of a batch has tokens: what is left out of all is not computed.

Time O(L K E + K^3) a head, memory O(L E): F and B only exist inside fused attention. Where L is no
multiple of K, or something is padded, the means are a product with a K x L matrix.

Departures from the paper: none. From its official code: there landmarks average the padding in,
L must be a multiple of K, and Z_0 is scaled by the largest norm in the whole batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.tiles import no_autocast, wide


class _PseudoInverse(torch.autograd.Function):
    """The iteration of `pseudo_inverse` from z = Z_0, keeping Z_0, Z_1, ... and no product."""

    @staticmethod
    def forward(ctx, a: Tensor, z: Tensor, iterations: int) -> Tensor:
        """a, z (N, K, K) -> Z_iterations."""
        steps = [z]
        for _ in range(iterations):
            steps.append(torch.bmm(steps[-1], _polynomial(torch.bmm(a, steps[-1]))[-1]).mul_(-0.25))
        ctx.save_for_backward(a, *steps[:-1])
        return steps[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dz: Tensor):
        a, *steps = ctx.saved_tensors
        da = torch.zeros_like(a)
        for z in reversed(steps):
            b = torch.bmm(a, z)
            u, w, x = _polynomial(b)
            dx = torch.bmm(z.mT, dz).mul_(-0.25)
            dw = torch.bmm(b.mT, dx)
            db = torch.bmm(dx, w.mT).baddbmm_(dw, u.mT).baddbmm_(b.mT, dw)
            dz = torch.bmm(dz, x.mT).mul_(-0.25).baddbmm_(a.mT, db)
            da.baddbmm_(db, z.mT)
        return da, dz, None


def _polynomial(b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u = b - 7 I, w = b u + 15 I, x = b w - 13 I; signs such that no pass but the products is needed."""
    u = b.clone()
    u.diagonal(dim1=1, dim2=2).sub_(7)
    w = torch.bmm(b, u)
    w.diagonal(dim1=1, dim2=2).add_(15)
    x = torch.bmm(b, w)
    x.diagonal(dim1=1, dim2=2).sub_(13)
    return u, w, x


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """(..., K, K) -> (..., K, K): Z_iterations of the module, each matrix scaled by its own norms.

    Rows and columns of zeros stay such. Razavi et al. 2014; eq. 14 and 15 of the paper. Entries of
    a are not negative. Memory O(iterations K^2) a matrix for the backward pass.
    """
    z = a.mT / (a.sum(-2).amax(-1) * a.sum(-1).amax(-1)).clamp(min=1e-30)[..., None, None]
    return _PseudoInverse.apply(a.flatten(0, -3), z.flatten(0, -3), iterations).view(a.shape)


class _SegmentMeans(torch.autograd.Function):
    """x and its means over `landmarks` equal segments, with one pass over x's gradient instead of three."""

    @staticmethod
    def forward(ctx, x: Tensor, landmarks: int) -> tuple[Tensor, Tensor]:
        """x (B, H, L, E) -> x, (B, H, landmarks, E)."""
        return x.view_as(x), x.unflatten(2, (landmarks, -1)).mean(3)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dx: Tensor, dmeans: Tensor):
        segments = dx.unflatten(2, (dmeans.shape[2], -1))
        return (segments + (dmeans / segments.shape[3]).unsqueeze(3)).flatten(2, 3), None


class _HeadwiseConv(torch.autograd.Function):
    """y[l, h] = sum_t kernel[h, t] v[l + t - T // 2, h], for CPUs.

    As a depthwise convolution over H E channels that lie next to each other it runs at the speed of
    memory, where torch's own over (H, L, E) images takes as long as a layer; its gradient for the
    kernel, which has no fast path, is read off the diagonals of blockwise products.
    """

    BLOCK = 64

    @staticmethod
    def forward(ctx, v: Tensor, kernel: Tensor) -> Tensor:
        """v (B, L, H, E), kernel (H, T) -> (B, L, H, E)."""
        ctx.save_for_backward(v, kernel)
        return _slide(v, kernel)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        v, kernel = ctx.saved_tensors
        length, (heads, taps), dtype = v.shape[1], kernel.shape, wide(v.dtype)
        half, size = taps // 2, _HeadwiseConv.BLOCK
        products = kernel.new_zeros(heads, size, size + 2 * half, dtype=dtype)
        for start in range(0, length, size):
            end = min(start + size, length)
            low, high = max(start - half, 0), min(end + half, length)
            columns = products[:, : end - start, low - start + half : high - start + half]
            for g, x in zip(grad[:, start:end].to(dtype), v[:, low:high].to(dtype), strict=True):
                columns.baddbmm_(g.transpose(0, 1), x.permute(1, 2, 0))
        stride = products.stride()
        diagonals = products.as_strided((heads, size, taps), (stride[0], stride[1] + 1, 1))
        return _slide(grad, kernel.flip(1)), diagonals.sum(1).to(kernel.dtype)


def _slide(x: Tensor, kernel: Tensor) -> Tensor:
    # (B, H E, 1, L) with the channels last in memory; with L as the height it is ten times slower.
    # In bf16 torch's kernel for this layout does not come back on some processors: float32 at least.
    channels = x.to(wide(x.dtype)).flatten(2).transpose(1, 2).unsqueeze(2)
    weight = kernel.to(channels.dtype).repeat_interleave(x.shape[3], 0)[:, None, None, :]
    with no_autocast(x):
        y = F.conv2d(channels, weight, padding=(0, kernel.shape[1] // 2), groups=weight.shape[0])
    return y.squeeze(2).transpose(1, 2).reshape(x.shape).to(x.dtype)


def segments(mask: Tensor, landmarks: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Which token is averaged into which landmark, with which weight.

    mask (B, L) -> weights (B, K, L) of `dtype`, zero at padding, rows of sum 1 (0 for landmarks that
    are left out); used (B, K) bool.
    """
    rank = mask.long().cumsum(1) - 1
    count = mask.sum(1, keepdim=True)
    segment = rank * landmarks // count.clamp(min=1)
    member = (segment[:, None, :] == torch.arange(landmarks, device=mask.device)[:, None]) & mask[:, None, :]
    size = member.sum(-1, keepdim=True)
    return member.to(dtype) / size.clamp(min=1), size[..., 0] > 0


class Nystromformer(MultiHead):
    """Attention through landmarks; see the module.

    The paper drops no attention weights. Raises ValueError for options out of range.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        landmarks: int = 64,
        iterations: int = 6,
        conv_kernel: int | None = 35,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, rotary=rotary)
        for field, value in (("landmarks", landmarks), ("iterations", iterations)):
            if value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not above 0")
        if conv_kernel is not None and (conv_kernel < 1 or conv_kernel % 2 == 0):
            raise ValueError(f"model.mixer.conv_kernel: {conv_kernel} is not odd and above 0, or null")
        self.landmarks, self.iterations = landmarks, iterations
        self.conv = None
        if conv_kernel:
            self.conv = nn.Conv2d(
                heads, heads, (conv_kernel, 1), padding=(conv_kernel // 2, 0), groups=heads, bias=False
            )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not all_real(mask):
            x = x.masked_fill(~mask[..., None], 0)
            mask = mask | ~mask.any(1, keepdim=True)  # no real token at all: any finite answer will do
        return super().forward(x, mask)

    def state_floats(self, length: int) -> int:
        """K~ and Z (B V)."""
        return 2 * self.heads * self.head_dim * min(self.landmarks, length)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """q, k, v are zero at padding."""
        keys = weights = columns = None
        landmarks = min(self.landmarks, q.shape[2])
        if not all_real(mask):
            keys = mask[:, None, None, :]
            landmarks = min(landmarks, int(mask.sum(1).max()))
            weights, used = segments(mask, landmarks, wide(q.dtype))
            columns = None if all_real(used) else used[:, None, None, :]
        elif q.shape[2] % landmarks:
            weights, _ = segments(mask[:1], landmarks, wide(q.dtype))
        if weights is None:
            (q, ql), (k, kl) = (_SegmentMeans.apply(x, landmarks) for x in (q, k))
        else:
            ql, kl = (weights.to(x.dtype)[:, None] @ x for x in (q, k))
        values = F.scaled_dot_product_attention(ql, k, v, attn_mask=keys)
        dtype = wide(q.dtype)
        with no_autocast(q):
            scores = ql.to(dtype) @ kl.to(dtype).mT * q.shape[-1] ** -0.5
            if columns is None:
                a = scores.softmax(-1)
            else:
                a = scores.masked_fill(~columns, -torch.inf).softmax(-1).masked_fill(~columns.mT, 0)
            values = (pseudo_inverse(a, self.iterations) @ values.to(dtype)).to(v.dtype)
        out = F.scaled_dot_product_attention(q, kl, values, attn_mask=columns)
        if self.conv is None:
            return out
        if v.device.type != "cpu":
            return out + self.conv(v)
        return out + _HeadwiseConv.apply(v.transpose(1, 2), self.conv.weight[:, 0, :, 0]).transpose(1, 2)
