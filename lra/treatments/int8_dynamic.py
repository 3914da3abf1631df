"""Linear layers in int8, executed: weights once, a scale a layer or channel, activations as they come.

Everything else (attention products, softmax, norms, transforms, scans, what reads a weight past its layer) stays as it
is, so that the share of the FLOPs that is linear bounds what can be gained: the facts name it, and the bound.

torchao (the extra `int8`) quantises by channel of the weight and by token of the activation, and is as quick as it can
be only when compiled. torch's own, which is deprecated there and quicker than that without a compiler, has one scale a
weight and one a call, so that what else is in a batch moves an answer in the last place of the grid.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from lra.treatments.examples import linears, of_linears, one_of, weight_bytes

BY = ("torchao", "torch")


class Int8Dynamic:
    """by: who does it. compiled: through torch.compile, of torchao. Raises ValueError, in one line, where torchao is
    asked for and not installed."""

    def __init__(self, by: str = "torchao", compiled: bool = False) -> None:
        self.by, self.compiled = one_of("by", by, BY), compiled
        if by == "torch" and compiled:
            raise ValueError("treatment.compiled: true is for treatment.by=torchao")
        if by == "torchao":
            _torchao()

    def after(self, trainee: Any) -> Any:
        model, layers = trainee.model.eval(), linears(trainee)
        self.facts = {
            **of_linears(trainee, layers),
            "weight_bytes": weight_bytes(model) - 3 * sum(m.weight.numel() for m in layers.values()),
            "capability": torch.backends.cpu.get_cpu_capability(),
        }
        mine = set(layers.values())
        if self.by == "torchao":
            config = _torchao()
            from torchao.quantization import quantize_

            quantize_(model, config(), filter_fn=lambda module, _: module in mine)
            trainee.model = torch.compile(model) if self.compiled else model
            return trainee
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = set(layers)
            trainee.model = torch.ao.quantization.quantize_dynamic(model, names, dtype=torch.qint8)
        left = [n for n, m in trainee.model.named_modules() if n in names and type(m) is nn.Linear]
        if left:
            raise ValueError(f"{len(left)} linear layers were left as they are, {left[0]} among them")
        return trainee


def _torchao() -> Any:
    """The configuration's class. Raises ValueError if torchao is not there."""
    try:
        # Without this import its patterns are not known to the compiler, and int8 runs as float.
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig
    except ImportError as error:
        raise ValueError("treatment.by: torchao is not installed; pip install 'lra[int8]', or by=torch") from error
    return Int8DynamicActivationInt8WeightConfig
