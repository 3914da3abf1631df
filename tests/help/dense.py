"""The slow and obvious version of every block pattern: an L x L mask and a softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lra.models.parts.heads import MultiHead, rotate
from lra.models.parts.patterned import Patterned
from tests.help.compare import assert_same, random_mask


def softmax_over(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """q, k, v (B, H, L, E), seen (B, H, L, L) bool -> (B, H, L, E); zeros where nothing is seen."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return (scores.masked_fill(~seen, -1e9).softmax(-1) * seen) @ v


def projected(x: Tensor, layer: MultiHead, names: tuple[str, str, str] = ("query", "key", "value")) -> list[Tensor]:
    """q, k, v (B, H, L, E) in the dtype of x."""
    q, k, v = (layer.split(x @ getattr(layer, name).weight.to(x.dtype).T) for name in names)
    return [rotate(q), rotate(k), v] if layer.rotary else [q, k, v]


def dense(x: Tensor, mask: Tensor, layer: Patterned) -> Tensor:
    """What `layer(x, mask)` must be, from its rule alone."""
    seen = layer.pattern(x.shape[1]) & mask[:, None, None]
    return layer.join(softmax_over(*projected(x, layer), seen)) @ layer.out.weight.to(x.dtype).T


def assert_dense(layer: Patterned, length: int, seed: int, slow: Callable[..., Tensor] = dense) -> None:
    """Outputs and gradients of a mixer against its pattern, for padding at the end or anywhere."""
    generator = torch.Generator().manual_seed(seed)
    mask = random_mask(2, length, generator, scattered=seed % 2 == 0)
    if seed % 3 == 0:
        mask[:] = True
    x = torch.randn(2, length, layer.query.in_features, generator=generator)
    assert_same(lambda x: layer(x, mask), lambda x: slow(x, mask, layer), [x], mask)
