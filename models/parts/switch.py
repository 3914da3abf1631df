"""Switch feed-forward layers (Fedus et al. 2021, arXiv 2101.03961, section 2): N experts, of which a token meets one.

    p = softmax(W_r (x * u)),  e = argmax p,   y = p_e FFN_e(x);   u in 1 +- JITTER, while training
    extra loss: ALPHA N sum_i f_i P_i,  f_i the share of tokens sent to i, P_i the mean of p_i  (eq. 4 to 6)

An example is routed by itself, in the loss and for the capacity, where the paper takes its batch together: so that none
has a say in another's tokens. `capacity` null drops no token: they are sorted by expert, one product for each. Else an
expert takes of each example the first ceil(capacity n / N) of those that are sent to it, in their order, n being the
number of its real tokens; for the others y = 0, and they pass by the residual (eq. 3). Padding is not routed. The
router works in float32 at least; of experts that tie the first is taken.

Weights start as truncated normals of variance 0.1 / inputs (section 2.4). Dropout falls on y. Time O(L D (mlp_dim + N))
and memory O(L (D + mlp_dim + N)).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Chance, Dropout
from lra.models.parts.heads import all_real
from lra.models.parts.tiles import no_autocast, wide

ALPHA, JITTER, SCALE = 0.01, 0.01, 0.1


class SwitchFeedForward(nn.Module):
    """(B, L, D), mask (B, L) -> (B, L, D), zeros at padding.

    `idle_parameters` is how many a token does not meet. Raises ValueError for experts below 1, a capacity not above 0.
    """

    def __init__(
        self, dim: int, mlp_dim: int, dropout: float = 0.0, experts: int = 4, capacity: float | None = None
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"model.stack.experts: {experts} is not above 0")
        if capacity is not None and not capacity > 0:
            raise ValueError(f"model.stack.capacity: {capacity} is not above 0, or null")
        self.experts, self.capacity = experts, capacity
        self.router = nn.Linear(dim, experts, bias=False)
        self.inner, self.outer = (
            nn.Parameter(torch.empty(experts, *size)) for size in ((mlp_dim, dim), (dim, mlp_dim))
        )
        self.inner_bias, self.outer_bias = (nn.Parameter(torch.zeros(experts, size)) for size in (mlp_dim, dim))
        for weight in (self.router.weight, self.inner, self.outer):
            std = (SCALE / weight.shape[-1]) ** 0.5
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        self.jitter, self.dropout = Chance(), Dropout(dropout)

    @property
    def idle_parameters(self) -> int:
        own = (self.inner, self.inner_bias, self.outer, self.outer_bias)
        return sum(p.numel() for p in own) // self.experts * (self.experts - 1)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"extra_loss": None}  # a copy has no backward pass to come

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        p = self.routed(x, mask)
        share, expert = p.max(-1)
        taken = mask
        if self.training:
            self.extra_loss = self.balance(p, expert, mask)
        if self.capacity is not None:
            taken = taken & self.within(expert, mask)
        y = self.mixed(x, expert, taken)
        return self.dropout(y * share.unsqueeze(-1).to(y.dtype))

    def routed(self, x: Tensor, mask: Tensor) -> Tensor:
        """p (B, L, N), of a mean over nothing where there is padding."""
        x = x.masked_fill(~mask.unsqueeze(-1), 0).to(wide(x.dtype))
        if self.training:
            x = x * (1 + JITTER * (2 * self.jitter.uniform(x) - 1))
        with no_autocast(x):
            return F.linear(x, self.router.weight.to(x.dtype)).softmax(-1)

    def balance(self, p: Tensor, expert: Tensor, mask: Tensor) -> Tensor:
        count = mask.sum(1, keepdim=True).clamp(min=1)
        real = mask.unsqueeze(-1)
        sent = (F.one_hot(expert, self.experts) * real).sum(1).to(p.dtype) / count
        return ALPHA * self.experts * (sent * p.masked_fill(~real, 0).sum(1) / count).sum(-1).mean()

    def within(self, expert: Tensor, mask: Tensor) -> Tensor:
        """Which tokens (B, L) are among the first of their expert, as many as it takes."""
        sent = F.one_hot(expert, self.experts) * mask.unsqueeze(-1)
        place = sent.cumsum(1).gather(2, expert.unsqueeze(-1)).squeeze(-1)
        room = (mask.sum(1, keepdim=True) * (self.capacity / self.experts)).ceil()
        return place <= room

    def mixed(self, x: Tensor, expert: Tensor, taken: Tensor) -> Tensor:
        """FFN_e(x) of the tokens that are taken, zeros for the others."""
        flat, expert = x.flatten(0, 1), expert.flatten()
        here = None if all_real(taken) else taken.flatten().nonzero().squeeze(1)
        if here is not None:
            expert = expert[here]
        order = expert.argsort(stable=True)
        if x.is_meta:  # where nothing is known, each has as many
            sizes = [len(piece) for piece in order.tensor_split(self.experts)]
        else:
            sizes = expert.bincount(minlength=self.experts).tolist()
        place = order if here is None else here[order]
        parts = [self.fed(part, i) for i, part in enumerate(flat[place].split(sizes))]
        y = torch.cat(parts)
        return torch.zeros_like(flat, dtype=y.dtype).index_copy(0, place, y).view(x.shape)

    def fed(self, x: Tensor, i: int) -> Tensor:
        hidden = F.gelu(F.linear(x, self.inner[i], self.inner_bias[i]), approximate="tanh")
        return F.linear(hidden, self.outer[i], self.outer_bias[i])
