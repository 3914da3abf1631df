"""What a student is to have in common with its teacher (Wang et al. 2020, MiniLMv2, arXiv 2012.15828, eq. 2 and 3).

    R(a)_ij = softmax_j(a_i a_j^T / sqrt(E)),   L = sum over a in {q, k, v} of the mean over heads h and rows i of
                                                    KL(R(a of the teacher)_hi || R(a of the student)_hi)

with q, k and v split anew into a common number of heads of width E, so that two mixers of any widths and heads can be
compared: a linear attention or a delta rule has no attention weights, and has these. Rows and columns are real tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.chance import Chance, keys_of
from lra.treatments.examples import wide

Three = tuple[Tensor, Tensor, Tensor]


def relations(teacher: Three, student: Three, mask: Tensor, heads: int, rows: Tensor) -> Tensor:
    """L of each sequence, (B,). teacher, student: q, k, v (B, L, width) each, of any width that `heads` divides; mask
    (B, L); rows int64 (B, R): the rows that count, of which those at padding do not."""
    real = mask.gather(1, rows)
    number = real.sum(1).clamp(min=1)
    total = torch.zeros((), device=mask.device)
    for ours, theirs in zip(student, teacher, strict=True):
        told = logs(theirs, mask, heads, rows)
        apart = F.kl_div(logs(ours, mask, heads, rows), told, reduction="none", log_target=True)
        # A row or column at padding has nothing in common with anything.
        apart = apart.masked_fill(~mask[:, None, None, :], 0).sum(-1).mean(1)
        total = total + apart.masked_fill(~real, 0).sum(1) / number
    return total


def logs(a: Tensor, mask: Tensor, heads: int, rows: Tensor) -> Tensor:
    """log R(a) of these rows, in float32 at least: a (B, L, width), rows (B, R) -> (B, heads, R, L)."""
    split = wide(a).unflatten(-1, (heads, -1)).transpose(1, 2)
    chosen = split.gather(2, rows[:, None, :, None].expand(-1, heads, -1, split.shape[-1]))
    scores = chosen @ split.mT * split.shape[-1] ** -0.5
    return scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min).log_softmax(-1)


def rows_of(chance: Chance, mask: Tensor, most: int) -> Tensor:
    """At most `most` real positions of each sequence, all alike, without repetition: mask (B, L) -> int64 (B, R). They
    follow from seed, step, example and position; where there are fewer, positions of padding fill up."""
    keys = keys_of(chance.keys(len(mask), mask.device), mask.shape[1])
    drawn = (keys >> 1).masked_fill(~mask, torch.iinfo(torch.int64).max)
    return drawn.argsort(dim=1, stable=True)[:, :most]


def soft(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each answer (Hinton et al. 2015, arXiv 1503.02531,
    section 2): logits (n, C) each -> (n,), in float32 at least."""
    told, ours = ((wide(x) / temperature).log_softmax(-1) for x in (teacher, student))
    return temperature**2 * F.kl_div(ours, told, reduction="none", log_target=True).sum(-1)
