"""torch.compile: the same arithmetic in fused loops. What compiling takes is in the first call of each shape."""

from __future__ import annotations

from typing import Any

import torch

from lra.treatments.examples import alone, called


class Compiled:
    """backend: of torch.compile. The facts count the breaks of the graph, between which nothing is fused."""

    def __init__(self, backend: str = "inductor") -> None:
        from torch import _dynamo as dynamo

        known = dynamo.list_backends(exclude_tags=())
        if backend not in known:
            raise ValueError(f"treatment.backend: {backend!r} is not one of {', '.join(known)}")
        self.backend = backend

    def after(self, trainee: Any) -> Any:
        from torch._dynamo.utils import counters

        trainee.model.eval()
        trainee.model = torch.compile(trainee.model, backend=self.backend)
        counters.clear()
        called(trainee, next(alone(trainee, 1)))
        self.facts = {"graph_breaks": sum(counters["graph_break"].values())}
        return trainee
