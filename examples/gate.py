"""A mixer in a file of its own, where a process that runs it can find it."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """Gate every position by itself and the average of all real ones."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # (B, L, D), (B, L) -> (B, L, D)
        weight = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        return self.out(x * torch.sigmoid(self.gate(x + mean)))
