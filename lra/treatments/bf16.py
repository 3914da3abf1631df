"""Weights and activations in bf16, but for what a model itself computes more widely; what other options are to beat."""

from __future__ import annotations

from typing import Any

import torch

from lra.treatments.examples import weight_bytes


class Bf16:
    """Complex parameters stay as they are: there is no narrower type for them."""

    def after(self, trainee: Any) -> Any:
        trainee.model.to(torch.bfloat16)
        self.facts = {"weight_bytes": weight_bytes(trainee.model)}
        return trainee
