"""RWKV-7 (Peng et al. 2025, arXiv 2503.14456), in two directions, without a kernel of its own.

Of x and its neighbour x' each of six maps sees its own mixture x_j = x + (x' - x) * m_j; then, a head at a time,

    r, k, v = W_r x_r, W_k x_k, W_v x_v                         w = -exp(-1/2) sigmoid(w_0 + tanh(x_w W_1) W_2)
    a = sigmoid(a_0 + x_a A_1 A_2),  g = sigmoid(x_g G_1) G_2   z = l2norm(k * k_k),  k~ = k * (1 + (a - 1) * k_a)
    S_t = diag(exp(w_t)) S_{t-1} - (a_t * z_t) (z_t^T S_{t-1}) + k~_t v_t^T
    out = W_o ( g * ( norm(S_t^T r_t) + ((r * r_k)^T k~) v ) )

A memory whose channels fade by themselves takes away what it holds under z and writes k~ v. norm is taken a head at a
time, with weight and bias. The second direction is ours (parts.recurrent): heads of half the width run each way, each
with maps of its own; x' is the position before, or the one behind.

Time O(L (Q E + E^2)) a head, memory O(L D); forward and backward about twice GLA's time on a CPU (width 256, 4 heads:
1.02 s against 0.44 s at 2 x 4,096 positions, 2.2 s against 1.1 s at 16,384, one thread). The recurrence passes over a
hole in the mask, whose x is 0 to its neighbours. Departures: values are not mixed with those of the first layer; W_o
does not start at 0, where no position would hear of another; the squared-ReLU layer of the paper's block is the common
stack's feed-forward layer.

Where it starts are ramps along the channels, by layer, as in the authors' code; vectors and low-rank maps have no
weight decay, and w_0 learns at twice the rate.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.deltanet import unit
from lra.models.parts.generalised_delta import LEAST, generalised_delta_rule
from lra.models.parts.recurrent import WAYS, exact, head_width, hidden, linear, nothing_at, undecayed

MIXED = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}  # exponents of the ramps of m_j
NORM_EPS = 1e-5  # a channel of a head


class RWKV7(nn.Module):
    """The time mixing of RWKV-7; see the module. `rank` is the width between the low-rank maps, `layer` of `depth`
    the number of this one, by which it starts.

    Raises ValueError if 2 H does not divide `qkv_dim`, or `rank` is below 1.
    """

    def __init__(
        self, dim: int, heads: int, qkv_dim: int | None = None, rank: int = 32, layer: int = 0, depth: int = 1
    ) -> None:
        super().__init__()
        width = qkv_dim or dim
        if rank < 1:
            raise ValueError(f"model.mixer.rank: {rank} is not above 0")
        head = head_width(width, heads, 2)
        self.ways = nn.ModuleList(Way(dim, heads, head, rank, layer, depth, reverse) for reverse in WAYS)
        self.out = linear(width, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, gone = hidden(x, mask)
        return self.out(torch.cat([way(x, gone) for way in self.ways], -1))

    def state_floats(self, length: int) -> int:
        """S of both directions."""
        return sum(way.bonus.numel() * way.bonus.shape[-1] for way in self.ways)


class Way(nn.Module):
    """One direction: x (B, L, D) with zeros at padding, where that is (B, L, 1) -> (B, L, H E)."""

    def __init__(self, dim: int, heads: int, head: int, rank: int, layer: int, depth: int, reverse: bool) -> None:
        super().__init__()
        width, self.heads, self.reverse = heads * head, heads, reverse
        late, early = layer / max(1, depth - 1), 1 - layer / depth
        place, channel = torch.arange(dim) / dim, torch.arange(width)
        ramp = channel / max(1, width - 1)
        turn = (channel % head - (head - 1) / 2) / max(0.5, (head - 1) / 2)
        turn = turn * turn.abs()
        self.mix = undecayed(torch.stack([1 - place ** (power * early) for power in MIXED.values()]))
        self.receptance, self.key, self.value = (nn.Linear(dim, width, bias=False) for _ in range(3))
        for map_, gain in ((self.receptance, 1.0), (self.key, 0.1), (self.value, 1.0)):
            nn.init.orthogonal_(map_.weight, gain)
        self.decay = low_rank(dim, rank, nn.Tanh(), -5.5 + 6 * ramp ** (1 + late**0.3) + 2.5 * turn)
        self.decay[2].bias.lra = {"rate": 2.0, "decay": 0.0}
        self.erase = low_rank(dim, rank, nn.Identity(), -0.19 + 0.3 * turn + 0.4 * (ramp - 0.5))
        self.gate = low_rank(dim, rank, nn.Sigmoid(), None, width)
        self.key_scale = undecayed(0.71 - 0.1 * (ramp - 0.5))
        self.key_erase = undecayed(torch.full((width,), 1.02))
        self.bonus = undecayed(torch.full((heads, head), -0.04))
        self.norm_weight = undecayed(torch.full((heads, head), ((layer + 1) / depth) ** 0.7))
        self.norm_bias = undecayed(torch.zeros(heads, head))

    def forward(self, x: Tensor, gone: Tensor | None) -> Tensor:
        near = F.pad(x, (0, 0, 0, 1))[:, 1:] if self.reverse else F.pad(x, (0, 0, 1, 0))[:, :-1]
        mixed = {name: torch.lerp(x, near, m.to(x.dtype)) for name, m in zip(MIXED, self.mix, strict=True)}
        r, k, v = self.receptance(mixed["r"]), self.key(mixed["k"]), self.value(mixed["v"])
        decay = nothing_at(gone, LEAST * through(self.decay, mixed["w"]).sigmoid())
        erase = through(self.erase, mixed["a"]).sigmoid()
        z = unit(self.each(k * self.key_scale.to(k.dtype)))
        k = nothing_at(gone, k.to(erase.dtype) * (1 + (erase - 1) * self.key_erase.to(erase.dtype)))
        r, k, v = self.each(r), self.each(k), self.each(v)
        b = nothing_at(gone, -self.each(erase) * z)
        y = generalised_delta_rule(r, self.each(decay), k, v, z, b, self.reverse)
        y = F.layer_norm(y.to(k.dtype), y.shape[-1:], eps=y.shape[-1] * NORM_EPS)
        y = y * self.norm_weight.to(y.dtype) + self.norm_bias.to(y.dtype)
        y = y + (r * k * self.bonus.to(k.dtype)).sum(-1, keepdim=True) * v
        return y.flatten(2).to(x.dtype) * self.gate(mixed["g"])

    def each(self, x: Tensor) -> Tensor:
        """(B, L, H E) -> (B, L, H, E)."""
        return x.unflatten(-1, (self.heads, -1))


def low_rank(dim: int, rank: int, between: nn.Module, bias: Tensor | None, width: int = 0) -> nn.Sequential:
    """Two maps with something between them, the first 0 at the start, the second orthogonal at a tenth of its size;
    the second's bias starts at `bias`, or is not there."""
    first = nn.Linear(dim, rank, bias=False)
    second = nn.Linear(rank, width if bias is None else len(bias), bias=bias is not None)
    nn.init.zeros_(first.weight)
    nn.init.orthogonal_(second.weight, 0.1 * max(1.0, rank / second.out_features) ** 0.5)
    if bias is not None:
        with torch.no_grad():
            second.bias.copy_(bias)
    for parameter in (*first.parameters(), *second.parameters()):
        parameter.lra = {"decay": 0.0}
    return nn.Sequential(first, between, second)


def through(layers: nn.Sequential, x: Tensor) -> Tensor:
    """What low-rank maps make of x, in float32 at least: decays add up along the length."""
    first, between, second = layers
    return exact(second, between(exact(first, x)))
