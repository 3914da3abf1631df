"""Random buffers of mixers: drawn from the module's own seed, and again every N training steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STRIDE = 1_000_003  # keeps the draws of neighbouring seeds apart


def _after_backward(module: Redrawn, *_: object) -> None:
    if module.training and not module.told:
        module.count(int(module.steps) + 1)


class Redrawn(nn.Module):
    """Mixin of modules with a random buffer that may be drawn anew while training.

    A subclass implements `draw(generator)`, which replaces (never overwrites: the graph of an
    earlier call may still hold the old one) its buffers, and calls `start_drawing(redraw)` at the
    end of its `__init__`. `redraw` is "never" or the number of training steps between two draws.

    A step is an optimizer step where `chance.tell` says which one it is. Where nobody does, it is one
    backward pass through the module, so that a forward pass which is only computed again (activation
    checkpointing, reversible layers) sees what the first one saw. All draws follow from `draw_seed`,
    taken once from the global generator: the same command repeats, and a checkpoint goes on where it
    stopped. In `eval()` nothing is ever drawn.
    """

    redraw_every: int
    told = False  # of the step, since the last `train()` or `eval()`

    def start_drawing(self, redraw: str | int) -> None:
        if redraw != "never" and (not isinstance(redraw, int) or isinstance(redraw, bool) or redraw < 1):
            raise ValueError(f"model.mixer.redraw: {redraw!r} is not never or a number of steps above 0")
        self.register_buffer("draw_seed", torch.randint(2**31, ()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if redraw != "never":
            self.redraw_every = redraw
            self.register_full_backward_hook(_after_backward)
        self.draw(self.generator(0))

    def train(self, mode: bool = True) -> Redrawn:
        self.told = False
        return super().train(mode)

    def at_step(self, step: int) -> None:
        """Hold what belongs to optimizer step `step`, from 0, and leave the counting to who says so."""
        if hasattr(self, "redraw_every"):
            self.told = True
            self.count(step)

    def count(self, step: int) -> None:
        """Say that `step` steps are over, and draw if that is due."""
        if self.draw_seed.device.type == "meta":
            return
        before, now = int(self.steps) // self.redraw_every, step // self.redraw_every
        self.steps.fill_(step)
        if now != before:
            self.draw(self.generator(now))

    def generator(self, count: int) -> torch.Generator | None:
        """The generator of draw number `count`; None on the meta device, which has no values."""
        if self.draw_seed.device.type == "meta":
            return None
        return torch.Generator().manual_seed(int(self.draw_seed) + count * _STRIDE)

    def draw(self, generator: torch.Generator | None) -> None:
        raise NotImplementedError

    def set_drawn(self, name: str, value: Tensor) -> None:
        """Make `value` the buffer `name`, on the device and of the type of the one before."""
        old = getattr(self, name, None)
        if old is None:
            self.register_buffer(name, value.to(self.draw_seed.device))
        else:
            setattr(self, name, value.to(old))
