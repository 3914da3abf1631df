"""Where the two discs are, as a second thing to learn beside the label: set prediction (Carion et al. 2020, DETR,
arXiv 2005.12872).

A model gives Q queries, each of which may say "a disc is here" or "nothing". Discs and queries are paired so that the
sum of costs, -p(disc) + 5 |place - place'|_1, is the least there is, exactly: the 12 ways to pair 2 discs with 4
queries are all looked at. The loss of a paired query is -log p(disc) + 5 |place - place'|_1, of another a tenth of
-log p(nothing), after each layer of the decoder. Places are rows and columns over the side.
"""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lra.tasks.base import Batch, DataError

DISCS, QUERIES, READ = 2, 4, 4
FAR, NOTHING = 5.0, 0.1  # weights of a distance, and of a query that has nothing to say
WITHIN = 2.0  # pixels in which a disc counts as found


class Placed(NamedTuple):
    """A Batch with where the discs are: places float32 (B, 2, 2)."""

    tokens: Tensor
    mask: Tensor
    labels: Tensor
    places: Tensor

    @property
    def asked(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Placed:
        return Placed(*(t.to(device, non_blocking=True) for t in self))


def placed(batch: Batch, side: int, radius: float) -> Placed:
    """The batch with the middles of the discs of its images."""
    from lra.tasks.pathfinder.discs import find_discs

    images = (batch.tokens - 1).clamp(min=0).to(torch.uint8).view(-1, side, side).numpy()
    found = (find_discs(images, radius).astype(np.float32) + 0.5) / side
    return Placed(*batch, torch.from_numpy(found).view(-1, DISCS, 2))


def random_places(batch: Batch) -> Placed:
    return Placed(*batch, torch.rand(len(batch.labels), DISCS, 2, device=batch.labels.device))


def check(aux: str | None, weight: float, path: str | None) -> None:
    """DataError for what cannot be asked."""
    if aux not in (None, "discs"):
        raise DataError(f"task.aux: {aux!r} is not discs, or null")
    if aux is not None and path is not None:
        raise DataError(f"task.aux: {aux} is known of generated images alone, and not of the files of task.path")
    if not weight > 0:
        raise DataError(f"task.aux_weight: {weight} is not above 0")


def read(output: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Of a model's output (B, classes + layers x Q x 4) log p(disc), log p(nothing) (B, layers, Q, 2), and places
    (B, layers, Q, 2), in float32 at least."""
    queries = output[:, classes:]
    queries = queries.to(torch.promote_types(queries.dtype, torch.float32)).view(len(output), -1, QUERIES, READ)
    return queries[..., :2].log_softmax(-1), queries[..., 2:]


def paired(cost: Tensor) -> Tensor:
    """The queries (..., 2) of the two discs for which the sum of cost (..., Q, 2) is least; the first of equals."""
    ways = torch.tensor(list(permutations(range(cost.shape[-2]), DISCS)), device=cost.device)  # (P, 2)
    total = cost[..., ways[:, 0], 0] + cost[..., ways[:, 1], 1]
    return ways[total.argmin(-1)]


def matching_loss(output: Tensor, places: Tensor, classes: int) -> Tensor:
    """Mean over examples and layers."""
    says, where = read(output, classes)
    apart = (where.unsqueeze(-2) - places[:, None, None].to(where)).abs().sum(-1)  # (B, layers, Q, discs)
    with torch.no_grad():
        query = paired(FAR * apart - says[..., :1].exp())
    far = apart.gather(-2, query.unsqueeze(-2)).squeeze(-2)
    of_paired = (FAR * far - says[..., 0].gather(-1, query)).sum(-1)
    free = torch.ones_like(says[..., 1]).scatter(-1, query, 0.0)
    return (of_paired - NOTHING * (says[..., 1] * free).sum(-1)).mean()


def missed(output: Tensor, places: Tensor, classes: int, side: int) -> Tensor:
    """Pixels between each disc and the query paired with it after the last layer: (B, 2)."""
    says, where = (t[:, -1] for t in read(output, classes))
    apart = where.unsqueeze(-2) - places[:, None].to(where)  # (B, Q, discs, 2)
    query = paired(FAR * apart.abs().sum(-1) - says[..., :1].exp())
    return side * apart.norm(dim=-1).gather(-2, query.unsqueeze(-2)).squeeze(-2)


def noted(output: Tensor, places: Tensor, classes: int, side: int) -> dict[str, Tensor]:
    """The share of an image's discs that is found within 2 pixels, and how far off they are told."""
    off = missed(output, places, classes, side)
    return {"discs_found": (off <= WITHIN).float().mean(1), "disc_pixels_off": off.mean(1)}
