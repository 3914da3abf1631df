"""What a mixer multiplies along the length, shown by name: the hook by which somebody else puts it on a grid.

`opened(x, mask, at, each)` gives what `forward` gives in evaluation, by plain products, and takes `at(name, t)` for t
wherever such a t stands, all (B, H, n, m), zeros at padding:

    query, key, value              as they are multiplied: rotated, convolved, of length 1
    score, weight                  of softmax attention, of some queries at a time; 0 where a query sees nothing
    query_feature, key_feature     of kernel attention
    state, total                   what is kept from token to token, and its normaliser
    answer                         what a query reads: a sum of values that nothing more is multiplied with here

each: state and total are shown after every token, as a decoder would store them; else once, where they are a sum over
all tokens that every query is multiplied with, and not at all where chunks of a recurrence carry them. Of the second
of two directions it is `at(name, t, reverse=True)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lra.models.parts.tiles import no_autocast, wide

At = Callable[..., Tensor]  # of a name, what it names, and whether it is of a direction against the length


def heads_at(at: At, name: str, t: Tensor) -> Tensor:
    """t (B, L, H, E) shown as (B, H, L, E)."""
    return at(name, t.transpose(1, 2)).transpose(1, 2)


def stepped(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    show: Callable[[Tensor], Tensor],
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """y of `parts.decay` or, with beta, `parts.delta`, a token at a time, and the last S (B, H, E, P), which is
    `show(S)` after each. Without q there is no y.

    q, k (B, L, H, E), v (B, L, H, P), log_decay (B, L, H or 1, E or 1), beta (B, L, H) -> (B, L, H, P). Time O(L E P).
    """
    state = v.new_zeros(len(v), v.shape[2], k.shape[3], v.shape[3])
    out, length = [], v.shape[1]
    for t in reversed(range(length)) if reverse else range(length):
        if log_decay is not None:
            state = state * log_decay[:, t].exp().unsqueeze(-1)
        written = v[:, t]
        if beta is not None:
            written = beta[:, t].unsqueeze(-1) * (written - (k[:, t].unsqueeze(-2) @ state).squeeze(-2))
        state = show(state + k[:, t].unsqueeze(-1) * written.unsqueeze(-2))
        if q is not None:
            out.append((q[:, t].unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(out[::-1] if reverse else out, 1) if out else None, state


def opened_rule(
    rule: Callable[..., Tensor],
    at: At,
    each: bool,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *more: Tensor | bool,
) -> Tensor:
    """A recurrence of `parts.decay` or `parts.delta` as it is shown: `rule` itself, or with `each` a token at a time.

    q, k (B, L, H, E), v (B, L, H, P), log_decay (B, L, H) or (B, L, H, E); more: beta, of the delta rule, and whether
    it goes against the length. -> (B, L, H, P).
    """
    *beta, reverse = more
    way = partial(at, reverse=reverse)
    shown = zip(("query", "key", "value"), (q, k, v), strict=True)
    q, k, v = (heads_at(way, name, t.to(wide(t.dtype))) for name, t in shown)
    if each:
        a = log_decay if log_decay.dim() == 4 else log_decay.unsqueeze(-1)
        with no_autocast(q):
            y, _ = stepped(q, k, v, partial(way, "state"), a, beta[0] if beta else None, reverse)
    else:
        y = rule(q, k, v, log_decay, *more)
    return heads_at(way, "answer", y)
