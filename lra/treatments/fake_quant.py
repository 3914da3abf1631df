"""Linear layers on a uniform grid, imitated in floats: what so many bits would cost in accuracy, and nothing of speed.

Grids are symmetric (lra.treatments.ranges). A weight has one, or one an output channel; the input of a layer has one,
which is fixed beforehand from the real tokens of training examples, and what is beyond it is clipped, at any number of
bits; or each token has its own as it comes, as torchao's int8 has, and nothing is clipped.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lra.treatments import ranges
from lra.treatments.examples import alone, at_least_one, called, covered, in_bits, linears, one_of, whole

GRIDS, TOKEN = ("tensor", "channel"), "token"
OF = ("weights", "both")
BITS = (2, 24)


class FakeQuant:
    """bits: of each number, 2 to 24, where nothing is left of the effect. of: "weights", or "both" they and the inputs
    of their layers. per: "tensor" or "channel", a weight's. calibration: the rule for both, or "token", an input's own
    (with it and with kl weights go by max); `percentile`: of the rule of that name. examples: that inputs are seen of.
    Raises ValueError.
    """

    def __init__(
        self,
        bits: int = 8,
        of: str = "both",
        per: str = "channel",
        calibration: str = "max",
        percentile: float = 99.99,
        examples: int = 64,
    ) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"treatment.percentile: {percentile!r} is not in (0, 100]")
        self.bits, self.percentile = whole("bits", bits, *BITS), percentile
        self.of, self.per = one_of("of", of, OF), one_of("per", per, GRIDS)
        self.calibration, self.examples = (
            one_of("calibration", calibration, (*ranges.RULES, TOKEN)),
            at_least_one("examples", examples),
        )

    def after(self, trainee: Any) -> Any:
        layers = linears(trainee)
        own = self.of == "both" and self.calibration == TOKEN
        ends = self.ends(trainee, layers) if self.of == "both" and not own else {}
        with torch.no_grad():
            for layer in layers.values():
                layer.weight.copy_(self.weight(layer.weight))
        for name, end in ends.items() if not own else dict.fromkeys(layers).items():
            layers[name].register_forward_pre_hook(partial(_given, end=end, bits=self.bits))
        self.facts = {
            "executed": False,
            "layers": len(layers),
            "covered": covered(trainee.model, layers),
            "weight_bytes": in_bits(trainee.model, layers, self.bits),
            "ends": {name: float(end) for name, end in ends.items()},
        }
        return trainee

    def weight(self, weight: Tensor) -> Tensor:
        return ranges.onto(weight, self.end(weight), self.bits)

    def end(self, weight: Tensor) -> Tensor:
        """Where the grid of each output channel of a weight (R, N) ends, or of all: (R or 1, 1)."""
        rows = weight.reshape(1, -1) if self.per == "tensor" else weight
        return ranges.of_rows(rows, self.bits, self.calibration, self.percentile)

    def ends(self, trainee: Any, layers: dict[str, nn.Linear]) -> dict[str, float]:
        """Where the grid of each layer's input ends: by a look for the largest and, but for max, one for the counts."""
        largest = dict.fromkeys(layers, 0.0)

        def look(name: str, x: Tensor) -> None:
            largest[name] = max(largest[name], float(x.abs().max()))

        seen(trainee, layers, self.examples, look)
        if self.calibration == "max":
            return largest
        counts = {name: np.zeros(ranges.BINS) for name in layers}

        def count(name: str, x: Tensor) -> None:
            bins = x.abs().float().mul(ranges.BINS / (largest[name] or 1.0)).long().clamp(max=ranges.BINS - 1)
            counts[name] += torch.bincount(bins.flatten(), minlength=ranges.BINS).cpu().numpy()

        seen(trainee, layers, self.examples, count)
        rule = self.bits, self.calibration, self.percentile
        return {name: ranges.of_counts(counts[name], largest[name], *rule) for name in layers}


def _given(_: nn.Module, given: tuple[Tensor, ...], end: float | None, bits: int) -> tuple[Tensor, ...]:
    """end: null for each token's own."""
    x = given[0]
    return ranges.onto(x, x.abs().amax(-1, keepdim=True) if end is None else end, bits), *given[1:]


def seen(trainee: Any, layers: dict[str, nn.Linear], count: int, look: Any) -> None:
    """`look(name, x)` at what each layer is given, of the real tokens of `count` training examples."""
    real: list[Tensor] = []

    def given(_: nn.Module, inputs: tuple[Tensor, ...], name: str) -> None:
        x, mask = inputs[0], real[0]
        look(name, x if mask.all() or x.shape[:2] != mask.shape else x[mask])

    hooks = [m.register_forward_pre_hook(partial(given, name=name)) for name, m in layers.items()]
    trainee.model.eval()
    try:
        for batch in alone(trainee, count):
            real[:] = [batch.mask.flatten(0, 1) if batch.mask.dim() == 3 else batch.mask]
            called(trainee, batch)
    finally:
        for hook in hooks:
            hook.remove()
