"""What the tests of single mixers share: fast against slow, and the contract of `models`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def random_mask(batch: int, length: int, generator: torch.Generator, scattered: bool = False) -> Tensor:
    """(B, L) bool: each row has 1 to L real tokens, at the front or scattered."""
    counts = torch.randint(1, length + 1, (batch, 1), generator=generator)
    ranks = torch.rand(batch, length, generator=generator).argsort(1) if scattered else torch.arange(length)
    return ranks < counts


def distance(x: Tensor, y: Tensor) -> float:
    """|x - y| / |y|; |x| where y is 0."""
    x, y = x.double(), y.double()
    return ((x - y).norm() / (y.norm() or 1)).item()


def assert_same(
    fast: Callable[..., Tensor],
    slow: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    real: Tensor,
    bound: float = 1e-5,
) -> None:
    """`fast` in float32 agrees with `slow` in float64, in outputs and in all gradients.

    Both map `inputs` to (B, H, L, E) or (B, L, D); only positions where `real` (B, L) count.
    """
    generator = torch.Generator().manual_seed(7)
    results = []
    before = [x.clone() for x in inputs]
    for function, dtype in ((fast, torch.float32), (slow, torch.float64)):
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        out = function(*leaves)
        weight = real[:, None, :, None] if out.dim() == 4 else real[..., None]
        out = torch.where(weight, out, torch.zeros_like(out))
        back = torch.randn(out.shape, generator=generator.manual_seed(7), dtype=torch.float64).to(dtype)
        results.append([out, *torch.autograd.grad(out, leaves, back)])
        assert all(map(torch.equal, inputs, before)), "an input was written to"
    for index, (x, y) in enumerate(zip(*results, strict=True)):
        what = "output" if index == 0 else f"gradient of input {index}"
        # What vanishes (a gradient through a single key, say) is compared with the whole instead.
        scale = max(y.double().norm().item(), 0.1 * max(r.double().norm().item() for r in results[1]))
        error = (x.double() - y).norm().item() / scale
        assert error < bound, f"{what}: relative error {error:.1e}"


def assert_causal(layer: nn.Module, dim: int, length: int = 150) -> None:
    """No output moves with what comes later, by value and by gradient; what comes before does move it."""
    generator = torch.Generator().manual_seed(11)
    x, other = torch.randn(2, 3, length, dim, generator=generator)
    mask = random_mask(3, length, generator, scattered=True)
    mask[0], mask[:, length // 2] = True, True
    for place in (0, length // 2, length - 2):
        later = (torch.arange(length) > place)[:, None]
        leaf = x.clone().requires_grad_()
        torch.manual_seed(5)  # of dropout, in training
        y = layer(leaf, mask)
        torch.manual_seed(5)
        again = layer(torch.where(later, other, x), mask)
        real = mask[:, : place + 1]
        torch.testing.assert_close(again[:, : place + 1][real], y[:, : place + 1][real], rtol=1e-5, atol=1e-6)
        (gradient,) = torch.autograd.grad(y[:, place][mask[:, place]].sum(), leaf)
        assert not gradient[:, place + 1 :].any()
        if place == length // 2:
            assert gradient[0, : place + 1].abs().amax(-1).gt(0).all()


def assert_mixer(build: Callable[..., nn.Module], bf16: float = 0.05) -> None:
    """The contract of `models`: `build(dim=32, heads=2, max_len=48)` makes a mixer."""
    torch.manual_seed(3)
    layer = build(dim=32, heads=2, max_len=48).eval()
    x = torch.randn(3, 48, 32)
    mask = torch.arange(48) < torch.tensor([[31], [48], [1]])
    with torch.no_grad():
        y = layer(x, mask)
        assert y.shape == x.shape
        assert torch.equal(y, layer(x, mask)), "two calls in eval() differ"
        # Padding: other values there, less of it, and none of the companions.
        for filler in (1e4, float("nan")):
            again = layer(x.masked_fill(~mask[..., None], filler), mask)
            torch.testing.assert_close(again[mask], y[mask], rtol=0, atol=1e-5)
        alone = layer(x[:1, :31], mask[:1, :31])
        torch.testing.assert_close(alone[0], y[0, :31], rtol=0, atol=1e-5)
        single = layer(x[2:, :1], mask[2:, :1])
        torch.testing.assert_close(single[0], y[2, :1], rtol=0, atol=1e-5)
        assert torch.isfinite(layer(x, torch.zeros_like(mask))).all(), "not finite without real tokens"
    gradients = []
    for filler in (0.0, 3.0):
        leaf = x.masked_fill(~mask[..., None], filler).requires_grad_()
        trained = copy.deepcopy(layer).train()  # because training may move what a layer remembers
        trained(leaf, mask)[mask].square().sum().backward()
        gradients.append(leaf.grad[mask])
        for name, parameter in trained.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"no gradient reaches {name}"
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-4)
    narrow = layer.eval().bfloat16()
    leaf = x.bfloat16().requires_grad_()
    low = narrow(leaf, mask)
    assert low.dtype == torch.bfloat16
    low[mask].float().square().sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert distance(low[mask], y[mask]) < bf16
    with torch.device("meta"):
        meta = build(dim=32, heads=2, max_len=48).train()
    leaf = torch.zeros(2, 40, 32, device="meta", requires_grad=True)
    meta(leaf, torch.ones(2, 40, dtype=torch.bool, device="meta")).sum().backward()
    build(dim=32, heads=2, max_len=48).to("meta")(leaf, torch.ones(2, 40, dtype=torch.bool, device="meta"))
    # There the way is that of other devices.
    for name, parameter in meta.named_parameters():
        assert parameter.grad is not None, f"on the meta device no gradient reaches {name}"
