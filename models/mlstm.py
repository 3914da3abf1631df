"""mLSTM (Beck et al. 2024, arXiv 2405.04517), in two directions.

    u, z = W_up x,   u' = silu(conv4(u)),   q, k = W_q u', W_k u',   v = W_v u,   i, f = W_i [q; k; v], W_f [q; k; v]
    C_t = sigmoid(f_t) C_{t-1} + exp(i_t) k_t v_t^T / sqrt(E),   n_t the same of k_t alone
    h_t = C_t^T q_t / max(|n_t^T q_t|, 1),   out = W_down ( (LayerNorm(h) + s * u') * silu(z) )

W_q, W_k and W_v are block diagonal with blocks of four, the norm is taken a head at a time, s is learned. exp(i) may be
too large for any number: with F the running sum of log sigmoid(f) and m_t = F_t + max(0, max_{s <= t} (i_s - F_s))
everything of t is divided by exp(m_t), which makes a decay of log sigmoid(f_t) + m_{t-1} - m_t and a gain of
exp(i_t - m_t), both at most 1: attention with a decay, n being one more column of v.

The paper is causal. Here `expand` D channels go in and come out, half of them each way with a convolution, gates and
norm of their own: with 1 a layer has about as many parameters as one of attention, the paper's own factor is 2.

Time O(L E (Q + E)) a head, memory O(L D): one way's q, k, v and h are computed again going back. Padding neither
forgets nor writes, so that the recurrence passes over a hole, and is zero to the convolutions, which keep the distance
across it. Departure: the authors' code adds 1e-6 to the denominator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from lra.models.parts.decay import decay_attention
from lra.models.parts.recurrent import EPS, WAYS, exact, head_width, hidden, nothing_at
from lra.models.parts.short_conv import ShortConv

BLOCK = 4


class Blocks(nn.Module):
    """A linear map (..., D) -> (..., D) whose matrix has blocks of BLOCK on the diagonal and nothing else, from
    N(0, std^2)."""

    def __init__(self, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width // BLOCK, BLOCK, BLOCK) * std)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...gi,goi->...go", x.unflatten(-1, (-1, BLOCK)), self.weight.to(x.dtype)).flatten(-2)


class Way(nn.Module):
    """One direction on `width` channels: u (B, L, width) and where nothing is -> (B, L, width), before the gate z.

    The gates start at 0 times their input, the forget gates at 3 to 6 over the heads, the input gates at N(0, 0.1^2);
    W_q, W_k and W_v from N(0, 2 / 5D), all as the authors' code has it.
    """

    def __init__(self, dim: int, width: int, heads: int, conv_kernel: int, reverse: bool) -> None:
        super().__init__()
        self.heads, self.reverse = heads, reverse
        self.conv = ShortConv(width, conv_kernel, bias=True, reverse=reverse)
        self.query, self.key, self.value = (Blocks(width, (0.4 / dim) ** 0.5) for _ in range(3))
        # Of q, of k and of v, the last with the bias: input gates, then forget gates.
        self.gates = nn.ModuleList(nn.Linear(width, 2 * heads, bias=last) for last in (False, False, True))
        for gates in self.gates:
            nn.init.zeros_(gates.weight)
        with torch.no_grad():
            self.gates[2].bias.copy_(torch.cat((0.1 * torch.randn(heads), torch.linspace(3.0, 6.0, heads))))
        self.scale = nn.Parameter(torch.ones(width))
        self.skip = nn.Parameter(torch.ones(width))

    def forward(self, u: Tensor, gone: Tensor | None) -> Tensor:
        smooth = self.conv(u)
        q, k, v = self.query(smooth), self.key(smooth), self.value(u)
        i, f = sum(exact(gates, t) for gates, t in zip(self.gates, (q, k, v), strict=True)).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (q, k, v))
        h = self.cell(q, k, v, nothing_at(gone, F.logsigmoid(f)), i, gone)
        return (
            F.layer_norm(h, h.shape[-1:], eps=EPS).flatten(2) * self.scale.to(h.dtype) + self.skip.to(h.dtype) * smooth
        )

    def cell(self, q: Tensor, k: Tensor, v: Tensor, f: Tensor, i: Tensor, gone: Tensor | None) -> Tensor:
        """q, k, v (B, L, H, E), log forget and input gates f and i (B, L, H) -> h (B, L, H, E)."""
        written = i if gone is None else i.masked_fill(gone, -torch.inf)
        peak, decay = stabiliser(f.detach(), written.detach(), self.reverse)
        # By m nothing changes, so that the gradient is that of f.
        a = decay + (f - f.detach())
        gain = (written - peak).exp()
        v = torch.cat((v, v.new_ones(*v.shape[:-1], 1)), -1)
        y = decay_attention(q * q.shape[-1] ** -0.5, k, v, a, gain, self.reverse)
        return y[..., :-1] / torch.maximum(y[..., -1:].abs(), (-peak).exp().unsqueeze(-1).to(y.dtype))


@torch.no_grad()
def stabiliser(f: Tensor, i: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """m and f_t + m_{t-1} - m_t of log gates f <= 0 and i (B, L, H), added up in float64; the other way round
    if `reverse`. i may be -inf."""
    if reverse:
        peak, decay = stabiliser(f.flip(1), i.flip(1), False)
        return peak.flip(1), decay.flip(1)
    total = f.double().cumsum(1)
    above = (i.double() - total).cummax(1).values.clamp(min=0)
    before = F.pad(above[:, :-1], (0, 0, 1, 0))
    return (total + above).to(f.dtype), (before - above).to(f.dtype)


class MLSTM(nn.Module):
    """mLSTM; see the module. `expand` is how many times `qkv_dim` the two ways have together.

    Raises ValueError if 2 H or 8 does not divide `expand` `qkv_dim`, or `expand` or `conv_kernel` is below 1.
    """

    def __init__(
        self, dim: int, heads: int, qkv_dim: int | None = None, depth: int = 1, expand: int = 1, conv_kernel: int = 4
    ) -> None:
        super().__init__()
        if expand < 1:
            raise ValueError(f"model.mixer.expand: {expand} is not above 0")
        width = expand * (qkv_dim or dim)
        head_width(width, heads, 2)
        if width % (2 * BLOCK):
            raise ValueError(f"size.qkv_dim: {width // expand} times {expand} is not a multiple of {2 * BLOCK}")
        self.up, self.gate = nn.Linear(dim, width, bias=False), nn.Linear(dim, width, bias=False)
        self.out = nn.Linear(width, dim, bias=False)
        for layer in (self.up, self.gate):
            nn.init.normal_(layer.weight, std=(0.4 / dim) ** 0.5)
        nn.init.normal_(self.out.weight, std=2 / depth / dim**0.5)
        self.ways = nn.ModuleList(Way(dim, width // 2, heads, conv_kernel, reverse) for reverse in WAYS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, gone = hidden(x, mask)
        halves = zip(self.ways, self.up(x).chunk(2, -1), strict=True)
        y = torch.cat([recompute(way, u, gone, use_reentrant=False) for way, u in halves], -1)
        return self.out(y * F.silu(self.gate(x)))

    def state_floats(self, length: int) -> int:
        """C and n of both directions."""
        head = self.out.in_features // (2 * self.ways[0].heads)
        return 2 * self.ways[0].heads * head * (head + 1)
