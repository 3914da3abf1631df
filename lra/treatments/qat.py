"""Quantisation-aware training: fine-tuning through fake quantisers, and what is left is imitated in floats.

The grids are those of treatment=fake_quant as it comes: each output channel of a weight to its largest, which moves
with the weight; the input of a layer to the largest that training examples had before. With as many steps at 24 bits,
where nothing is rounded, one sees what training on alone does.
"""

from __future__ import annotations

from typing import Any

from lra.treatments.examples import in_bits, linears, of_linears, rate_of, steps_of
from lra.treatments.fake_quant import FakeQuant
from lra.treatments.straight import tuned


class Qat:
    """bits: of weights and inputs, 2 to 24. steps: of the run's batch size, on its train split; 0 is post-training
    quantisation. learning_rate: of the first step, along a line to 0. Raises ValueError."""

    def __init__(self, bits: int = 4, steps: int = 200, learning_rate: float = 1e-4) -> None:
        self.grids = FakeQuant(bits)
        self.steps, self.learning_rate = steps_of("steps", steps), rate_of("learning_rate", learning_rate)

    def after(self, trainee: Any) -> Any:
        layers, bits = linears(trainee), self.grids.bits
        ends = self.grids.ends(trainee, layers)
        self.facts = {
            "executed": False,
            **of_linears(trainee, layers),
            "weight_bytes": in_bits(trainee.model, layers, bits),
            "ends": {name: float(end) for name, end in ends.items()},
        }
        inputs = {name: (end, bits) for name, end in ends.items()}
        of_each = dict.fromkeys(layers, bits)
        self.facts["training"] = tuned(trainee, layers, of_each, self.grids.end, inputs, self.steps, self.learning_rate)
        return trainee
