"""Linear layers in int8, executed, with a scale of each layer's input that is fixed beforehand.

    y = s_x s_w sum_k clamp(round(x_k / s_x), -128, 127) w_k + b,   w = clamp(round(W / s_w), -127, 127)

Sums are of whole numbers, and exact. s_x comes from the real tokens of training examples, one a layer, s_w is one a
weight or one an output channel, by the rules of lra.treatments.ranges. So nothing is looked for as inputs come, as
int8_dynamic has to, and what else is in a batch moves no answer; an input beyond what was seen is clipped.

torch's kernel for CPUs (FBGEMM) takes floats, rounds them, multiplies and scales in one call. Everything else than the
linear layers stays as it is. A CPU without instructions for it adds pairs of products in 16 bits, which overflow: that
is tried first, and refused.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lra.treatments import ranges
from lra.treatments.examples import in_bits, linears, of_linears, one_of, put
from lra.treatments.fake_quant import FakeQuant

BITS, MIDDLE = 8, 128  # what 0 is among the bytes 0 to 255


class Int8Static:
    """per: a weight's scales, "tensor" or "channel". calibration: the rule for weights and inputs (with kl weights go
    by max); `percentile`: of the rule of that name. examples: that inputs are seen of. Raises ValueError."""

    def __init__(
        self, per: str = "channel", calibration: str = "max", percentile: float = 99.99, examples: int = 64
    ) -> None:
        one_of("calibration", calibration, ranges.RULES)
        self.grids = FakeQuant(BITS, "both", per, calibration, percentile, examples)

    def after(self, trainee: Any) -> Any:
        if trainee.acc.device.type != "cpu":
            raise ValueError(f"int8_static is for CPUs, and the model is on {trainee.acc.device.type}")
        whole()
        model, layers = trainee.model.eval(), linears(trainee)
        ends = self.grids.ends(trainee, layers)
        self.facts = {
            **of_linears(trainee, layers),
            "weight_bytes": in_bits(model, layers, BITS),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "ends": {name: float(end) for name, end in ends.items()},
        }
        for name, layer in layers.items():
            put(model, layer, StaticLinear(layer, float(ends[name]), self.grids.end(layer.weight.detach())))
        return trainee


class StaticLinear(nn.Module):
    """In the place of a linear layer: (..., in) -> (..., out), in the type that it is given.

    end: where the grid of the input ends. ends: of the weight, (out or 1, 1).
    """

    def __init__(self, layer: nn.Linear, end: float, ends: Tensor) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.scale = end / ranges.top(BITS) or 1.0  # an input that is always 0 is 0 on any grid
        weight, scales = layer.weight.detach().float(), ends.double().flatten() / ranges.top(BITS)
        scales = torch.where(scales > 0, scales, 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zeros = torch.zeros(len(scales), dtype=torch.long)
            # By channel, of one scale too: the numbers are then rounded alike.
            scales, zeros = scales.expand(len(weight)).contiguous(), zeros.expand(len(weight)).contiguous()
            top = ranges.top(BITS) * scales.float()[:, None]
            rounded = torch.quantize_per_channel(weight.clamp(-top, top), scales, zeros, 0, torch.qint8)
            bias = None if layer.bias is None else layer.bias.detach().float()
            self.packed = torch.ops.quantized.linear_prepack(rounded, bias)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x.float(), self.scale, MIDDLE, self.packed
        )
        return y.to(x.dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        # As torch's own: who keeps weights sees that these are packed.
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = torch.ops.quantized.linear_unpack(self.packed)[0]


def whole() -> None:
    """Raises ValueError where the largest products do not add up, or where the kernel is not there."""
    layer = nn.Linear(64, 16, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    try:
        found = StaticLinear(layer, 1.0, torch.ones(1, 1))(torch.ones(2, 64))
    except (RuntimeError, AttributeError) as error:
        raise ValueError("int8_static: torch has no kernel for it on this CPU") from error
    if (found - 64).abs().max() > 1e-3:
        raise ValueError("int8_static: this CPU has no instructions for products of 8 bits, whose sums overflow")
