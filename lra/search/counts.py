"""What one inference step is made of, counted without doing it: the features that a time is predicted from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lra.machine.flops import counter
from lra.settings import build
from lra.settings.schema import Settings
from lra.uncompiled import uncompiled

COUNTED = ("flops", "written", "ops", "stack_parameters", "resident")


def counts(settings: Settings, exam: Any) -> dict[str, int | None]:
    """Of a batch of one example of full length, on the meta device: `flops` (as lra.machine.flops counts), `written`
    (bytes of what operations put out, views apart), `ops` (how many there are), `stack_parameters` (of the layers:
    without embedding, positions and head) and `resident` (bytes of weights and batch). null where the model cannot run
    there."""
    meta = torch.device("meta")
    try:
        with meta, uncompiled():
            model = build.model(settings, exam).eval()
        batch = exam.synthetic(1, meta)
        with torch.no_grad(), uncompiled(), Ops() as seen, Whole(seen), counter() as counted:
            model(batch.tokens, batch.mask)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return dict.fromkeys(COUNTED)
    found = {"flops": counted.get_total_flops(), "written": seen.written, "ops": seen.ops}
    held = [*model.parameters(), *model.buffers(), *batch]
    return found | {
        "stack_parameters": sum(p.numel() for p in getattr(model, "stack", model).parameters()),
        "resident": sum(t.numel() * t.element_size() for t in held),
    }


class Ops(TorchDispatchMode):
    """Counts operations, and the bytes that they put out, while it is open. whole: inside one that counts as one.

    These two stand here and not in a function, because `uncompiled` knows what torch has wrapped when it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = self.written = 0
        self.whole = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if not (self.whole or function.is_view):
            self.add(out)
        return out

    def add(self, out: Any) -> None:
        self.ops += 1
        self.written += sum(t.numel() * t.element_size() for t in tree_leaves(out) if isinstance(t, Tensor))


class Whole(TorchFunctionMode):
    """Attention that a device does in one kernel is one operation, though the meta device takes it apart; beside what
    it puts out its weights (B, H, L, S) count as written, once, because they are made."""

    def __init__(self, seen: Ops) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        self.seen.whole = True
        try:
            out = function(*args, **(kwargs or {}))
            made = _weights(*args, **(kwargs or {}))
        finally:
            self.seen.whole = False
        self.seen.add([out, made])
        return out


def _weights(query: Tensor, key: Tensor, *_: Any, **__: Any) -> Tensor:
    return query.new_empty(*query.shape[:-1], key.shape[-2])


def deeper(one: Mapping[str, int], two: Mapping[str, int], depth: int) -> dict[str, int]:
    """Of so many layers, from those of one and of two, which are alike."""
    return {key: one[key] + (depth - 1) * (two[key] - one[key]) for key in one}
