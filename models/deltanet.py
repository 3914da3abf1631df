"""DeltaNet and Gated DeltaNet (Yang et al. 2024, arXiv 2406.06484 and arXiv 2412.06464), in two directions.

    q, k = l2norm(silu(conv4(W x))),   v = silu(conv4(W_v x)),   b = sigmoid(W_b x)
    S_t = exp(a_t) (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T,   o_t = S_t^T q_t / sqrt(E)
    out = W_o RMSNorm(o)

The memory first takes away what it holds under a key, then writes. Gated: a = -exp(A) softplus(W_a x + b_a), and the
norm is followed by a gate silu(W_g x); otherwise a = 0. `negative_eigenvalues` doubles b: from 0 to 2, the state's
transition may turn a sign (Grazzi et al. 2024, arXiv 2411.12537). `steps` are the corrections a position, each with a
key, a value and a b of its own, of which the first alone forgets, and q reads after the last (DeltaProduct: Siems et
al. 2025, arXiv 2502.10297). Without `conv_kernel` there is no convolution, only the SiLU. The second direction is ours
(parts.recurrent): heads of half the width run each way, each with its own causal convolution.

Time O(L (Q E + E^2)) a head and step, memory O(L D). Padding has b = 0 and a = 0, so that the recurrence passes over a
hole, and is zero to the convolutions, which keep the distance across it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.delta import delta_rule
from lra.models.parts.opened import At, opened_rule
from lra.models.parts.recurrent import (
    WAYS,
    HeadNorm,
    StepDecay,
    exact,
    head_width,
    hidden,
    linear,
    nothing_at,
)
from lra.models.parts.short_conv import ShortConv
from lra.models.parts.tiles import wide

NORM_EPS = 1e-6


class DeltaNet(nn.Module):
    """The delta rule; see the module. Raises ValueError if 2 H does not divide `qkv_dim`, `conv_kernel` is below 1,
    or `steps` is no whole number from 1."""

    def __init__(
        self,
        dim: int,
        heads: int,
        qkv_dim: int | None = None,
        gated: bool = False,
        negative_eigenvalues: bool = False,
        steps: int = 1,
        conv_kernel: int | None = 4,
    ) -> None:
        super().__init__()
        width = qkv_dim or dim
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"model.mixer.steps: {steps} is not a whole number from 1")
        self.heads, self.head_dim, self.steps = heads, head_width(width, heads, 2), steps
        self.most = 2.0 if negative_eigenvalues else 1.0
        self.query, self.key, self.value = linear(dim, width), linear(dim, width * steps), linear(dim, width * steps)
        self.write, self.out = linear(dim, 2 * heads * steps), linear(width, dim)
        self.conv = None
        if conv_kernel is not None:
            widths = {"query": width // 2, "key": steps * width // 2, "value": steps * width // 2}
            self.conv = nn.ModuleDict(
                {
                    name: nn.ModuleList(ShortConv(n, conv_kernel, reverse=way) for way in WAYS)
                    for name, n in widths.items()
                }
            )
        self.forget = StepDecay(dim, 2 * heads, (0.0, 16.0)) if gated else None
        self.gate = linear(dim, width) if gated else None
        self.norm = HeadNorm(self.head_dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.ruled(x, mask, delta_rule)

    def opened(self, x: Tensor, mask: Tensor, at: At, each: bool = False) -> Tensor:
        """See `parts.opened`. Of several steps a position the state is shown after each."""
        return self.ruled(x, mask, partial(opened_rule, delta_rule, at, each))

    def ruled(self, x: Tensor, mask: Tensor, rule: Callable[..., Tensor]) -> Tensor:
        """rule(q, k, v, a, beta, reverse) of each way."""
        x, gone = hidden(x, mask)
        q, k, v = (self.convolved(name, x) for name in ("query", "key", "value"))
        beta = nothing_at(gone, self.most * exact(self.write, x).sigmoid()).chunk(2, -1)
        a = [torch.zeros_like(b[..., : self.heads]) for b in beta]
        if self.forget is not None:
            a = self.forget(x, gone)[1].chunk(2, -1)
        ways = [self.run(rule, *each) for each in zip(q, k, v, a, beta, WAYS, strict=True)]
        y = self.norm(ways)
        return self.out(y if self.gate is None else y * F.silu(self.gate(x)))

    def relations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B, L, D), both ways side by side: (B, L, H E), of keys and values times
        `steps`."""
        x, _ = hidden(x, mask)
        q, k, v = (torch.cat(self.convolved(name, x), -1) for name in ("query", "key", "value"))
        return q, k, v

    def state_floats(self, length: int) -> int:
        """S of both directions, however many steps change it."""
        return 2 * self.heads * self.head_dim**2

    def convolved(self, name: str, x: Tensor) -> list[Tensor]:
        """The projection `name` of x (B, L, D) for each way: silu of its convolution."""
        halves = getattr(self, name)(x).chunk(2, -1)
        if self.conv is None:
            return [F.silu(half) for half in halves]
        return [conv(half) for conv, half in zip(self.conv[name], halves, strict=True)]

    def run(
        self,
        rule: Callable[..., Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        a: Tensor,
        beta: Tensor,
        reverse: bool,
    ) -> Tensor:
        """One way: q (B, L, H E), k, v (B, L, `steps` H E), a (B, L, H), beta (B, L, `steps` H) -> (B, L, H, E)."""
        q, k = unit(q.unflatten(-1, (self.heads, -1))) * self.head_dim**-0.5, unit(self.stepped(k, reverse))
        v, beta = self.stepped(v, reverse), self.stepped(beta, reverse).squeeze(-1)
        if self.steps == 1:
            return rule(q, k, v, a, beta, reverse)
        # A position forgets before its first correction and is read after its last.
        first, last = (self.steps - 1, 0) if reverse else (0, self.steps - 1)
        q, a = put(q, last, self.steps), put(a, first, self.steps)
        return rule(q, k, v, a, beta, reverse)[:, last :: self.steps]

    def stepped(self, x: Tensor, reverse: bool) -> Tensor:
        """(B, L, `steps` H E) -> (B, `steps` L, H, E), a position's steps in the order of the scan."""
        x = x.unflatten(-1, (self.steps, self.heads, -1))
        return (x.flip(2) if reverse and self.steps > 1 else x).flatten(1, 2)


def put(x: Tensor, place: int, steps: int) -> Tensor:
    """(B, L, ...) -> (B, `steps` L, ...): x at every `steps`-th position from `place`, zeros elsewhere."""
    nothing = torch.zeros_like(x)
    return torch.stack([x if step == place else nothing for step in range(steps)], 2).flatten(1, 2)


def unit(x: Tensor) -> Tensor:
    """(..., E) at length 1, zeros at 0, in float32 at least."""
    x = x.to(wide(x.dtype))
    return x * (x.square().sum(-1, keepdim=True) + NORM_EPS).rsqrt()
