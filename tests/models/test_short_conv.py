"""The short convolution against torch's."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lra.models.parts.short_conv import ShortConv
from tests.help.paper import leaves
from tests.help.recurrence import assert_core, convolved


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_equals_torch(silu: bool, bias: bool, reverse: bool) -> None:
    for length, taps in ((1, 4), (3, 4), (4, 4), (40, 4), (40, 1), (7, 3)):
        torch.manual_seed(length)
        conv = ShortConv(6, taps, bias, reverse, silu)
        w = [torch.randn(5, length, 6), *(p.detach() for p in conv.parameters())]

        def ours(x, weight, b=None, conv=conv):
            return torch.func.functional_call(conv, {"weight": weight} | ({} if b is None else {"bias": b}), (x,))

        assert_core(ours, partial(convolved, reverse=reverse, silu=silu), w)


def test_bf16_keeps_its_type() -> None:
    conv = ShortConv(6, 4, True).bfloat16()
    x = torch.randn(2, 30, 6).bfloat16().requires_grad_()
    y = conv(x)
    assert y.dtype == torch.bfloat16
    exact = convolved(x.double(), *leaves(conv).values())
    torch.testing.assert_close(y.double(), exact, rtol=2**-7, atol=2**-7)
    y.sum().backward()
    assert x.grad.dtype == conv.weight.grad.dtype == conv.bias.grad.dtype == torch.bfloat16


def test_initial_values_are_those_of_torch() -> None:
    torch.manual_seed(0)
    conv = ShortConv(4000, 4, True)
    for values in (conv.weight, conv.bias):
        assert values.abs().max() <= 0.5 and values.mean().abs() < 0.03
        assert abs(values.square().mean() - 1 / 12) < 0.005
    assert ShortConv(4, 4).bias is None


def test_a_bad_width_is_told() -> None:
    with pytest.raises(ValueError, match=r"model\.mixer\.conv_kernel: 0 is not above 0, or null"):
        ShortConv(4, 0)
