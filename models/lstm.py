"""LSTM (Hochreiter and Schmidhuber 1997), bidirectional: torch's, as the control among the recurrences.

One LSTM in each direction, D wide, and a projection back to D, as the reference for keeping a state. Examples are
packed: what is computed is real tokens only. A hole in the mask is deleted, its neighbours follow each other.

Time O(L D^2), one position after the other; memory O(L D). Starts as torch lets it, forget gates half open.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lra.models.parts.heads import all_real, real_first, zeroed


class LSTM(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if x.is_meta:
            return self.out(self._products(x))
        if all_real(mask):
            return self.out(self.lstm(x)[0])
        # Real tokens to the front, in their order; an example without any keeps one zero, as packing wants.
        order = real_first(mask).unsqueeze(-1)
        front = zeroed(x, mask).gather(1, order.expand_as(x))
        packed = pack_padded_sequence(front, mask.sum(1).clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.out(torch.zeros_like(y).scatter(1, order.expand_as(y), y))

    def _products(self, x: Tensor) -> Tensor:
        """What is only counted there: as many products, without a call a position, which torch's counter takes
        30 ms for. Of the first position the state needs no gradient."""
        each = []
        for end in ("", "_reverse"):
            inner, outer = (
                [getattr(self.lstm, f"{kind}_{of}_l0{end}") for kind in ("weight", "bias")] for of in ("ih", "hh")
            )
            state = torch.cat([nn.functional.linear(part, *outer) for part in (x[:, :1].detach(), x[:, 1:])], dim=1)
            each.append((nn.functional.linear(x, *inner) + state)[..., : self.lstm.hidden_size])
        return torch.cat(each, dim=-1)

    def state_floats(self, length: int) -> int:
        """h and c of both directions."""
        return 4 * self.lstm.hidden_size
