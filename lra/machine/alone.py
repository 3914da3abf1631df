"""One process by itself: what training asks of accelerate's Accelerator, without importing it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Alone:
    """Takes the place of an Accelerator where there is one process."""

    num_processes, process_index = 1, 0

    def __init__(self, device: torch.device, dtype: str) -> None:
        self.device, self.dtype = device, dtype

    def prepare(self, *things: Any) -> tuple[Any, ...]:
        return things

    def unwrap_model(self, net: nn.Module) -> nn.Module:
        return net

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "bf16" else nullcontext()

    def no_sync(self, net: nn.Module) -> AbstractContextManager:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters: Iterable[Tensor], most: float) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, most)

    def reduce(self, x: Tensor, how: str) -> Tensor:
        return x
