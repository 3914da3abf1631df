"""Routing Transformer (Roy et al. 2020, arXiv 2003.05997): heads that attend inside clusters of their queries and keys.

    q^, k^ = LN of q and k without gain and bias, of length sqrt(E)
    members of cluster c: the w queries and the w keys of largest q^ . mu_c and k^ . mu_c      (section 4.1)
    out_i = mean over the clusters i is in of softmax(q^_i K^_c^T / sqrt(E)) V_c;   in none: 0

The second half of the heads, rounded up, is routed; the others attend to blocks of `block` positions and their two
neighbours. `clusters` is sqrt(max_len) where it is null, and w = max_len / clusters, both from `max_len` alone: padding
is no member, and where fewer tokens are real than w all of them are. Of tokens that are alike the place decides, by a
fixed sequence of a thousandth (`preferred`), because rounding would otherwise. Time O(L^1.5 D), memory O(L D) but for
L clusters numbers while members are chosen, which has no gradient.

Centroids mu (unit rows, a buffer) start as seeded Gaussians and follow while training (online spherical k-means):

    m_c <- decay m_c + (1 - decay) a_c / |a_c|,  m_c = 0 at first;   mu_c <- m_c / |m_c|

a_c sums the unit queries and keys of real tokens that are nearest to mu_c, over one optimizer step. That is as good as
dividing by 1 - decay^t, so that nothing is left of the random start. The sums are taken in the backward pass and
applied when the next step begins (`chance.tell`), or at once where nobody says which step it is: no part of a batch
sees another, and nothing moves in `eval()`. What pulls tokens to their centroids is an extra loss,

    commitment x mean over real tokens, heads, queries and keys of |x^ / sqrt(E) - mu|^2

Departures from the paper: queries and keys stay two projections, as nothing here is causal; the random start, where its
code runs k-means on the first batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.heads import MultiHead, zeroed
from lra.models.parts.pattern import Part, starts, within
from lra.models.parts.patterned import attend
from lra.models.parts.redrawn import Redrawn
from lra.models.parts.tiles import no_autocast, wide

GOLDEN = (5**0.5 - 1) / 2


class Routing(MultiHead, Redrawn):
    """Local and routed heads; see the module. Raises ValueError for numbers out of range."""

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        clusters: int | None = None,
        block: int = 64,
        decay: float = 0.999,
        commitment: float = 1e-4,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        clusters = max(1, round(max_len**0.5)) if clusters is None else clusters
        for field, value in (("clusters", clusters), ("block", block)):
            if value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not above 0")
        if not 0 <= decay < 1:
            raise ValueError(f"model.mixer.decay: {decay} is not in [0, 1)")
        self.block, self.decay, self.commitment = block, decay, commitment
        self.local, self.window = heads // 2, -(-max_len // clusters)
        shape = (heads - self.local, clusters, self.head_dim)
        self.register_buffer("centroids", F.normalize(torch.randn(shape), dim=-1))
        for name in ("average", "members"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.seen: Tensor | None = None
        self.register_full_backward_hook(_after_backward)

    def __getstate__(self) -> dict:
        # What a forward pass has left for its backward pass is no copy's.
        return self.__dict__ | {"seen": None, "extra_loss": None}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        sizes = (self.local, self.heads - self.local)
        (q, q_far), (k, k_far), (v, v_far) = (t.split(sizes, 1) for t in (q, k, v))
        far = self.routed(q_far, k_far, v_far, mask)
        if not self.local:
            return far
        length, width = q.shape[2], min(self.block, q.shape[2])
        start = starts(length, width)
        queries, keys = start + torch.arange(width), start + torch.arange(-width, 2 * width)
        part = Part(within(queries, length), within(keys, length)[None], (0, self.local)).trimmed().to(q.device)
        return torch.cat((attend(q, k, v, mask, [part]), far), 1)

    def routed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        batch, heads, length, width = q.shape
        dtype = wide(q.dtype)
        # Padding is 0, and stays so.
        q, k = (F.layer_norm(t.to(dtype), (width,)) for t in (q, k))
        centroids = self.centroids.to(dtype)
        with no_autocast(q):
            if self.training:
                self.seen, self.extra_loss = torch.zeros_like(centroids), q.new_zeros(())
            of_queries, of_keys = (self._members(t, centroids, mask) for t in (q, k))
            there = [mask[:, None, None].expand(-1, heads, 1, -1).gather(3, m) for m in _flat(of_queries, of_keys)]
            real_queries, real_keys = (t.view(of_queries.shape) for t in there)
            rows, keys, values = (_rows(t, m) for t, m in ((q, of_queries), (k, of_keys), (v.to(dtype), of_keys)))
            answers = F.scaled_dot_product_attention(
                rows.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), real_keys.flatten(0, 1).unsqueeze(2)
            ).view(batch, heads, -1, width)
            index = of_queries.flatten(2)
            weight = real_queries.flatten(2).to(dtype).unsqueeze(-1)
            sums = q.new_zeros(batch, heads, length, width)
            sums = sums.scatter_add(2, index.unsqueeze(-1).expand_as(answers), answers * weight)
            times = q.new_zeros(batch, heads, length, 1).scatter_add(2, index.unsqueeze(-1), weight)
        return (sums / times.clamp(min=1)).to(v.dtype)

    def _members(self, x: Tensor, centroids: Tensor, mask: Tensor) -> Tensor:
        """x (B, H, L, E) -> (B, H, C, w): positions, those of padding last. In training the nearest are noted too."""
        unit = x * x.shape[-1] ** -0.5
        scores = unit.detach() @ centroids.mT
        if self.training:
            self._follow(unit, scores.argmax(-1), centroids, mask)
        # In units in which rounding is a hundred thousand times below what is preferred.
        scores.add_(preferred(x.shape[2], x).unsqueeze(1)).masked_fill_(~mask[:, None, :, None], -math.inf)
        return scores.mT.topk(min(self.window, x.shape[2])).indices

    def _follow(self, unit: Tensor, nearest: Tensor, centroids: Tensor, mask: Tensor) -> None:
        """Note the sums of the nearest for the backward pass, and add to the extra loss: unit (B, H, L, E), 0 in the
        padding, and nearest (B, H, L)."""
        count = mask.sum(1).clamp(min=1)
        heads, clusters, width = centroids.shape
        rows = (nearest + clusters * torch.arange(heads, device=nearest.device)[:, None]).view(-1, 1).expand(-1, width)
        self.seen.view(-1, width).scatter_add_(0, rows, unit.detach().reshape(-1, width))
        target = centroids.reshape(-1, width).gather(0, rows).view(unit.shape)
        apart = (unit - target).square().sum(-1).masked_fill(~mask[:, None], 0)
        self.extra_loss = self.extra_loss + self.commitment * (apart.sum(2).mean(1) / count).mean() / 2

    def at_step(self, step: int) -> None:
        self.told = True
        if self.steps.device.type != "meta" and step != int(self.steps):
            self.steps.fill_(step)
            self.move()

    @torch.no_grad()
    def move(self) -> None:
        """Let the centroids follow what was seen since they last did."""
        size = self.members.norm(dim=-1, keepdim=True)
        new = torch.lerp(self.members / size.clamp(min=1e-12), self.average, self.decay)
        self.average = torch.where(size > 0, new, self.average)
        self.centroids = torch.where(size > 0, F.normalize(self.average, dim=-1), self.centroids)
        self.members = torch.zeros_like(self.members)


def _after_backward(module: Routing, *_: object) -> None:
    if module.training and module.seen is not None:
        module.members = module.members + module.seen.to(module.members)
        module.seen = None
        if not module.told:
            module.move()


def preferred(length: int, like: Tensor) -> Tensor:
    """(L,) in [0, 1e-3): multiples of the golden ratio without their integers, which lie as far apart as they can."""
    place = torch.arange(length, dtype=torch.float64, device=like.device)
    return (place * GOLDEN).frac().mul(1e-3).to(like.dtype)


def _flat(*members: Tensor) -> list[Tensor]:
    return [m.flatten(2).unsqueeze(2) for m in members]


def _rows(x: Tensor, members: Tensor) -> Tensor:
    """x (B, H, L, E), members (B, H, C, w) -> (B, H, C, w, E)."""
    index = members.flatten(2).unsqueeze(-1).expand(-1, -1, -1, x.shape[-1])
    return x.gather(2, index).unflatten(2, members.shape[2:])
