"""What attention mixers share: projections, heads, rotary positions, masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.chance import Chance, Drops
from lra.models.parts.short_conv import BothWays
from lra.models.parts.tiles import wide


class Full(Tensor):
    """A mask of which it is known that it hides nothing. What is made of it is a mask like any other."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Ragged(Tensor):
    """A mask of which it is known that it hides something."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def told(mask: Tensor, full: bool) -> Tensor:
    """The mask, of any shape, with what is known of it: once for all layers, so that a compiled model is broken off
    there alone to look at it, and has one program for each kind."""
    return mask.as_subclass(Full if full else Ragged)


def led(mask: Tensor, count: int) -> Tensor:
    """mask (B, L) behind so many real positions, (B, count + L), and as much known of it."""
    more = torch.cat((mask.new_ones(len(mask), count), mask), dim=1)
    return told(more, isinstance(mask, Full)) if isinstance(mask, (Full, Ragged)) else more


def all_real(mask: Tensor) -> bool:
    """True if `mask` (any shape, bool) hides nothing, so that a cheaper path may be taken.

    On the meta device nothing is known about the values: False would count the masked path, so
    the answer there is True, which is the case that is measured (full-length batches). In a program that is compiled
    False, where nothing was told: the path that serves every mask.
    """
    if isinstance(mask, (Full, Ragged)):
        return isinstance(mask, Full)
    if torch.compiler.is_compiling():
        return False
    return mask.device.type == "meta" or bool(mask.all())


def zeroed(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, L, D) with zeros where `mask` (B, L) is False, whatever stood there; x itself if it hides nothing."""
    return x if all_real(mask) else x.masked_fill(~mask.unsqueeze(-1), 0)


def real_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real positions: scores (B, L, ...), mask (B, L) -> the same, zeros elsewhere, in float32 at
    least; an example without any has zeros alone."""
    scores = scores.to(wide(scores.dtype))
    if all_real(mask):
        return scores.softmax(1)
    gone = ~mask.view(*mask.shape, *[1] * (scores.dim() - 2))
    return scores.masked_fill(gone, torch.finfo(scores.dtype).min).softmax(1).masked_fill(gone, 0)


def real_first(mask: Tensor) -> Tensor:
    """Positions with the real ones in front, each kind in its order: mask (B, L) -> (B, L) int64."""
    return (~mask).int().argsort(dim=1, stable=True)


def rotate(x: Tensor, positions: Tensor | None = None, base: float = 10_000.0) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864, eq. 34).

    x (..., L, E) with E even; positions (..., L), default 0..L-1. Pairs are (i, i + E/2). The angles
    are computed in float32 at least: in bf16 they are wrong beyond position 256.
    """
    length, width = x.shape[-2:]
    if positions is None:
        positions = torch.arange(length, device=x.device)
    half, dtype = width // 2, wide(x.dtype)
    frequency = base ** (-torch.arange(half, device=x.device, dtype=dtype) / half)
    angle = positions.to(dtype).unsqueeze(-1) * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


PROJECTED = ("query", "key", "value")


class MultiHead(nn.Module):
    """Base of the attention mixers: project, split into heads, `attend`, join, project.

    A subclass implements `attend(q, k, v, mask)`: q, k, v (B, H, L, E) and mask (B, L) give
    (B, H, L, E). As in the official code, projections have no bias (spec 4.1) unless `bias`. They are three
    products: one for all, whose result and gradient have to be taken apart, is no faster on a CPU (0.97 to 1.07 of
    the rate of a training step, by model). conv_kernel: taps of a short convolution behind each of them
    (`short_conv.BothWays`), by which a token knows its neighbours; null: none. causal: position i sees real tokens
    j <= i alone, which `attend` sees to.

    Raises ValueError if `qkv_dim` is not a multiple of `heads`, a head's width is odd and
    `rotary` is set, or `conv_kernel` is below 1.
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
    ) -> None:
        super().__init__()
        qkv_dim = qkv_dim or dim
        if heads < 1 or qkv_dim % heads:
            raise ValueError(f"size.heads: {heads} does not divide qkv_dim {qkv_dim}")
        if rotary and (qkv_dim // heads) % 2:
            raise ValueError(f"model.position: rotary needs an even head width, not {qkv_dim // heads}")
        self.heads, self.head_dim, self.max_len = heads, qkv_dim // heads, max_len
        self.dropout, self.rotary, self.chance = dropout, rotary, Chance(dropout > 0)
        self.query = nn.Linear(dim, qkv_dim, bias=bias)
        self.key = nn.Linear(dim, qkv_dim, bias=bias)
        self.value = nn.Linear(dim, qkv_dim, bias=bias)
        self.out = nn.Linear(qkv_dim, dim, bias=bias)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            if bias:
                nn.init.zeros_(layer.bias)
        self.causal, self.short_conv = causal, None
        if conv_kernel is not None:
            self.short_conv = nn.ModuleDict({name: BothWays(qkv_dim, conv_kernel, causal) for name in PROJECTED})

    @property
    def dropout_now(self) -> float:
        """The dropout rate in force: 0 outside training."""
        return self.dropout if self.training else 0.0

    def drops(self, q: Tensor, keys: int | None = None) -> Drops | None:
        """Which weights on `keys` keys (all positions) the queries q (B, H, L, E) drop now; None: none is dropped."""
        if not self.dropout_now:
            return None
        return self.chance.drops((*q.shape[:3], q.shape[2] if keys is None else keys), self.dropout, q.device)

    def split(self, x: Tensor) -> Tensor:
        """(B, L, H x E) -> (B, H, L, E)."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """(B, H, L, E) -> (B, L, H x E)."""
        return x.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k = self.queries_and_keys(x, mask)
        v = self.split(self.projected("value", x, mask))
        return self.out(self.join(self.attend(q, k, v, mask)))

    def queries_and_keys(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `attend` is given them: x (B, L, D) -> (B, H, L, E) each."""
        q, k = (self.split(self.projected(name, x, mask)) for name in ("query", "key"))
        return (rotate(q), rotate(k)) if self.rotary else (q, k)

    def projected(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        """The projection `name` of x (B, L, D), and its convolution: (B, L, H x E)."""
        y = getattr(self, name)(x)
        return y if self.short_conv is None else self.short_conv[name](zeroed(y, mask))

    def relations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B, L, D) before any rotation: (B, L, H x E) each."""
        q, k, v = (self.projected(name, x, mask) for name in PROJECTED)
        return q, k, v

    def state_floats(self, length: int) -> int:
        """Keys and values of all positions."""
        return 2 * self.heads * self.head_dim * length

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        raise NotImplementedError
