"""One network of many sizes (Hou et al. 2020, DynaBERT, arXiv 2004.04037): heads and neurons are sorted by importance,
so that the first are the best; then the beginnings of the network are trained, the widths first, then depths besides.

    width  teacher: the model as it came                          L = KL(y) + .1 sum of (x - x of the teacher)^2
    depth  teacher: what the widths have left, at the same width  L = KL(y) +  1 sum of (x - x of the teacher)^2

y are the answers asked for, x what each layer is given and what the last one leaves, at real tokens: a layer that is
left is to be given what it is given in the teacher. What comes of it is the whole network; `treatment=cut` makes
networks of other sizes of it.

Departures: a step is of one size, as AutoFormer's are (Chen et al. 2021, arXiv 2107.00651), where DynaBERT sums the
gradients of all; sizes come in rounds of all, each in an order that is drawn. Streams of pre-norm layers have no scale
of their own, and x is compared as a LayerNorm without gains leaves it. There is neither augmented data nor a last stage
with labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.chance import listening
from lra.tasks.base import NOT_ASKED
from lra.treatments import neurons
from lra.treatments.examples import at_least_one, rate_of, steps_of, weight_bytes, wide
from lra.treatments.further import seed_of, trained
from lra.treatments.importance import importance
from lra.treatments.prefix import WHOLE, Prefix, Size, cut, first, inputs_of, layers_of, with_heads
from lra.treatments.relations import soft

WIDTHS, DEPTHS = (0.25, 0.5, 0.75, 1.0), (0.5, 0.75, 1.0)
STAGES = {  # sizes, the teacher's of each, and what states weigh beside answers
    "width": ([Size(w, 1.0) for w in WIDTHS], lambda size: WHOLE, 0.1),
    "depth": ([Size(w, d) for w in WIDTHS for d in DEPTHS], lambda size: Size(size.width, 1.0), 1.0),
}


class Elastic:
    """steps: of each of the two stages, of the run's batch size, on its train split; 0: heads and neurons are sorted,
    and that is all. learning_rate: of the first step of each, along a line to 0. examples: that importance is taken of.
    Raises ValueError."""

    def __init__(self, steps: int = 250, learning_rate: float = 3e-4, examples: int = 64) -> None:
        self.steps, self.learning_rate = steps_of("steps", steps), rate_of("learning_rate", learning_rate)
        self.examples = at_least_one("examples", examples)

    def after(self, trainee: Any) -> Any:
        order = rewired(trainee, self.examples)
        spent = {}
        for stage, (name, (sizes, teacher, weight)) in enumerate(STAGES.items() if self.steps else (), 1):
            turns = Turns(trainee, sizes, teacher, weight, stage)
            spent[name] = trained(trainee, self.steps, self.learning_rate, (stage,), turns)
            trainee.model.eval()
        self.facts = {
            "widths": list(WIDTHS),
            "depths": list(DEPTHS),
            "heads": order,
            "training": spent,
            "weight_bytes": weight_bytes(trainee.model),
        }
        return trainee

    def shaped(self, trainee: Any) -> Any:
        """Sorted and trained, a network has the form that it had."""
        return trainee


def rewired(trainee: Any, examples: int) -> list[list[int]]:
    """Sort the heads and neurons of each layer, the most important first; of equals the first. What the model answers
    stays. Of each layer the numbers that its heads had. Raises ValueError where a mixer has no prefixes."""
    layers, given = layers_of(trainee.model), inputs_of(trainee)
    groups = {}
    for i, layer in enumerate(layers):
        groups[f"heads {i}"] = layer.mixer.out, layer.mixer.heads
        groups[f"neurons {i}"] = layer.mlp.outer, layer.mlp.outer.in_features
    found = importance(trainee, groups, examples)
    if lost := sorted(groups.keys() - found.keys()):
        raise ValueError(f"the loss does not reach {lost[0]} by a call of the layer behind them: no prefix of it")
    orders = {name: score.argsort(stable=True, descending=True) for name, score in found.items()}
    for i, layer in enumerate(layers):
        layer.mixer = with_heads(layer.mixer, orders[f"heads {i}"], given[i], trainee)
        neurons.cut(layer.mlp, orders[f"neurons {i}"])
        for width in WIDTHS:
            with_heads(layer.mixer, first(layer.mixer.heads, width), given[i], trainee)
    return [orders[f"heads {i}"].tolist() for i in range(len(layers))]


class Turns:
    """Which size is trained at each step, and who teaches it. stage: of which the order is drawn."""

    def __init__(
        self, trainee: Any, sizes: Sequence[Size], teacher: Callable[[Size], Size], weight: float, stage: int
    ) -> None:
        before = copy.deepcopy(trainee.model).requires_grad_(False)
        above = {s: Prefix(before, cut(trainee, s), s, False) for s in set(map(teacher, sizes))}
        self.taught = [
            Taught(trainee.exam, Prefix(trainee.model, cut(trainee, s), s, True), above[teacher(s)], weight)
            for s in sizes
        ]
        self.draw, self.order = np.random.Generator(np.random.PCG64(seed_of(trainee, stage, 1))), np.empty(0, int)
        self.drawing = listening(trainee.model)

    def __call__(self, own: Any, number: int) -> None:
        at = number % len(self.taught)
        if at == 0:
            self.order = self.draw.permutation(len(self.taught))
        own.exam = taught = self.taught[self.order[at]]
        own.called = taught.student
        own.drawing = self.drawing + listening(taught.student.made)


class Taught:
    """An exam whose loss is what the teacher says, and not the labels."""

    def __init__(self, exam: Any, student: Prefix, teacher: Prefix, weight: float) -> None:
        self.exam, self.student, self.teacher, self.weight = exam, student, teacher, weight

    def loss(self, output: Tensor, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        """output: what the student has just answered to the batch."""
        with torch.no_grad():
            theirs = self.teacher(batch.tokens, batch.mask)
        asked, answers = batch.labels != NOT_ASKED, self.exam.num_classes
        apart = soft(theirs[asked][..., :answers], output[asked][..., :answers], 1.0).mean()
        above, own = self.teacher.states, self.student.states
        met = [above[i] for i in self.student.kept] + above[-1:]
        return apart + self.weight * sum(map(self.off, own, met))

    def off(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean square of the difference at real tokens, of both (B, L, D) as a norm leaves them."""
        x, y = (normed(each)[self.student.mask] for each in (x, y))
        return F.mse_loss(x, y)


def normed(x: Tensor) -> Tensor:
    """x (B, L, D) less its mean over its deviation, in float32 at least."""
    return F.layer_norm(wide(x), x.shape[-1:], eps=1e-6)
