"""What the papers' equations need, written out for the tests: nothing here comes from `models`.

A slow version is a function of (w, x, mask): the parameters by name, x (B, L, D) in float64, mask
(B, L). It is held against the layer itself, as it is and in float64, in outputs and in the
gradients of x and of every parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

Slow = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


def split(x: Tensor, heads: int) -> Tensor:
    """(B, L, H E) -> (B, H, L, E): a head has neighbouring columns."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).permute(0, 2, 1, 3)


def join(x: Tensor) -> Tensor:
    """(B, H, L, E) -> (B, L, H E)."""
    return x.permute(0, 2, 1, 3).reshape(len(x), x.shape[2], -1)


def turned(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, eq. 13): x_m e^(i m theta), with columns (c, c + E/2) as one complex number."""
    length, width = x.shape[-2:]
    theta = 10_000 ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * theta
    z = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((z.real, z.imag), -1)


def projected(
    w: dict[str, Tensor],
    x: Tensor,
    heads: int,
    names: tuple[str, ...] = ("query", "key", "value"),
    rotary: bool = False,
) -> list[Tensor]:
    """q, k, v (B, H, L, E); the first two turned where `rotary`."""
    q, k, v = (split(x @ w[f"{name}.weight"].T, heads) for name in names)
    return [turned(q), turned(k), v] if rotary else [q, k, v]


def tapped(w: dict[str, Tensor], name: str, y: Tensor) -> Tensor:
    """y (B, L, D) after its short convolution: each position from itself and the K - 1 before it; where there is a
    second way, channels of the second half from those after it."""
    ways, out = [w[n] for n in sorted(w) if n.startswith(f"short_conv.{name}.ways.")], []
    for way, half in zip(ways, y.split([len(way) for way in ways], -1), strict=True):
        step = 1 if way is not ways[0] else -1
        rows = []
        for t in range(y.shape[1]):
            there = [i for i in range(way.shape[1]) if 0 <= t + step * i < y.shape[1]]
            rows.append(sum(half[:, t + step * i] * way[:, i] for i in there))
        out.append(torch.stack(rows, 1))
    return torch.cat(out, -1)


def neighbourly(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int, rotary: bool = False, convolved: bool = False
) -> list[Tensor]:
    """`projected` where each of the three may have its short convolution, which takes padding for zeros."""
    out = []
    for name in ("query", "key", "value"):
        y = x @ w[f"{name}.weight"].T
        out.append(split(tapped(w, name, y * mask[..., None]) if convolved else y, heads))
    return [*map(turned, out[:2]), out[2]] if rotary else out


def softmax_over(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Vaswani et al. 2017, eq. 1, over the keys that are seen, (B or 1, H or 1, L, L): zeros where that is none."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).exp() * seen
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-300) @ v


def patterned(heads: int, pattern: Tensor, rotary: bool = False) -> Slow:
    """Attention where the query (row) of a head sees the keys of `pattern` (H, L, L) that are real."""

    def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        y = softmax_over(*projected(w, x, heads, rotary=rotary), pattern & mask[:, None, None])
        return join(y) @ w["out.weight"].T

    return slow


def wake(module: nn.Module, seed: int = 0, by: float = 0.2) -> None:
    """Move all parameters from where they start, so that none is zero, one or the same as another."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * by)


def leaves(module: nn.Module) -> dict[str, Tensor]:
    """The parameters by all of their names, in float64; those that are shared are one tensor."""
    made: dict[int, Tensor] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {n: made.setdefault(id(p), p.detach().to(torch.float64, copy=True).requires_grad_()) for n, p in named}


def results(y: Tensor, real: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """y where it counts, and the gradients of a fixed function of it."""
    y = y * real
    back = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found = torch.autograd.grad((y * back.to(y.dtype)).sum(), list(wanted.values()), materialize_grads=True)
    return {"output": y, **{f"gradient of {n}": g for n, g in zip(wanted, found, strict=True)}}


def assert_close(ours: dict[str, Tensor], exact: dict[str, Tensor], bound: float) -> None:
    """Errors by the norm, relative. What vanishes (a gradient through a single key, say) is what cancels of the
    others' size, and is held to a tenth of that instead."""
    floor = 0.1 * max(float(t.detach().norm()) for t in exact.values())
    for what, expected in exact.items():
        error = (ours[what].detach().double() - expected.detach()).norm() / expected.detach().norm().clamp(min=floor)
        assert error < bound, f"{what}: relative error {error:.1e}"


def assert_equation(
    layer: nn.Module, slow: Slow, x: Tensor, mask: Tensor, *, double: float = 1e-11, single: float | None = 2e-5
) -> None:
    """`layer` as it is (float32, to `single`) and in float64 (to `double`) against `slow`.

    x may be tokens instead, which have no gradient; of logits (B, C) all count.
    """

    def found(run: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, parameters: dict[str, Tensor]) -> dict:
        given = x.detach().to(dtype if x.is_floating_point() else x.dtype, copy=True)
        inputs = {"x": given.clone().requires_grad_()} if x.is_floating_point() else {}
        y = run(inputs.get("x", given), mask)
        out = results(y, mask[..., None] if y.dim() == 3 else torch.tensor(True), inputs | parameters)
        assert not inputs or torch.equal(inputs["x"], given), "the input was written to"
        return out

    w = leaves(layer)
    names = [name for name, _ in layer.named_parameters()]
    exact = found(partial(slow, w), torch.float64, {n: w[n] for n in names})
    for module, bound in ((layer, single), (copy.deepcopy(layer).double(), double)):
        if bound is not None:
            parameters = dict(module.named_parameters())
            assert_close(found(module, parameters[names[0]].dtype, parameters), exact, bound)


def seeded(module: nn.Module, seed: int = 5) -> nn.Module:
    """The module, with torch's seed set before each call: the same dropout every time."""
    module.register_forward_pre_hook(lambda *_: torch.manual_seed(seed) and None)
    return module


def assert_xavier(weight: Tensor, rows: int, columns: int) -> None:
    """Uniform within sqrt(6 / (rows + columns)) (Glorot and Bengio 2010, eq. 16)."""
    bound, x = (6 / (rows + columns)) ** 0.5, weight.detach().flatten().double()
    assert x.abs().max() <= bound * (1 + 1e-6)
    assert abs(x.mean()) < 4 * bound / (3 * x.numel()) ** 0.5
    assert abs(x.square().mean() / bound**2 * 3 - 1) < 4 * (0.8 / x.numel()) ** 0.5


def assert_normal(weight: Tensor, std: float) -> None:
    x = weight.detach().flatten().double() / std
    assert abs(x.mean()) < 4 / x.numel() ** 0.5 and abs(x.square().mean() - 1) < 4 * (2 / x.numel()) ** 0.5
    assert abs(x.abs().mean() - (2 / torch.pi) ** 0.5) < 4 * 0.61 / x.numel() ** 0.5


def some_mask(batch: int, length: int, seed: int) -> Tensor:
    """(B, L): by turns full, real tokens in front, and anywhere; at least one in each row."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, length + 1, (batch, 1), generator=generator)
    if seed % 3 == 0:
        counts[:] = length
    ranks = torch.rand(batch, length, generator=generator).argsort(1) if seed % 3 == 1 else torch.arange(length)
    return ranks < counts


def normed(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """LayerNorm (Ba et al. 2016, eq. 4), with the 1e-6 of the official code."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    """The tanh form (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1 + ((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())


def fed(w: dict[str, Tensor], name: str, x: Tensor, drop: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """The feed-forward layer of spec 4.1, dropout after each of its two maps."""
    inner = drop(gelu(x @ w[f"{name}.inner.weight"].T + w[f"{name}.inner.bias"]))
    return drop(inner @ w[f"{name}.outer.weight"].T + w[f"{name}.outer.bias"])


def under(w: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The parameters of one submodule, by their names in it."""
    return {n.removeprefix(f"{name}."): p for n, p in w.items() if n.startswith(f"{name}.")}


def residual(
    w: dict[str, Tensor],
    x: Tensor,
    mask: Tensor,
    mixer: Slow,
    depth: int,
    drop: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """Pre-norm layers and a last norm around `mixer` (w, x, mask), all with parameters below `layers.N`."""
    for n in range(depth):
        own = under(w, f"layers.{n}")
        x = x + drop(mixer(under(own, "mixer"), normed(own, "mixer_norm", x), mask))
        x = x + fed(own, "mlp", normed(own, "mlp_norm", x), drop)
    return normed(w, "norm", x)
