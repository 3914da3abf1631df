"""FLOPs as torch counts them, and what it has no formula for, which it counts as nothing without a word."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


def counter() -> FlopCounterMode:
    """A context that counts matrix products, those that are added in place among them, convolutions, attention and
    triangular systems, with get_total_flops()."""
    aten = torch.ops.aten
    more = {aten.addmm_: _added, aten.baddbmm_: _added, aten.linalg_solve_triangular: _solved}
    return FlopCounterMode(display=False, custom_mapping=more)


def _added(_: Shape, a: Shape, b: Shape, **__: Any) -> int:
    """a (..., n, m), b (..., m, k)."""
    return 2 * prod(a) * b[-1]


def _solved(a: Shape, b: Shape, **_: Any) -> int:
    """a (..., n, n), half of it zeros, b (..., n, k)."""
    return prod(b) * a[-1]
