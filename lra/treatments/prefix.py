"""Smaller networks that are the beginning of a whole one.

    width m   of each layer the first max(1, round(m H)) heads and the first max(1, round(m N)) feed-forward neurons
    depth m   layers floor(i / m) for i = 0 ... round(m L) - 1, counted from 0

(Hou et al. 2020, DynaBERT, arXiv 2004.04037, section 2, and its authors' code for what is rounded; there neurons come
in as many groups as there are heads). Embeddings, norms and head stay. So every parameter of such a network is the
beginning of one of the whole along each of its axes, and all sizes are one set of weights (Chen et al. 2021,
AutoFormer, arXiv 2107.00651, section 3.2: weight entanglement).

A mixer has such beginnings where it is what its heads make it, each by itself. That is tried: with some of its heads
it has to give what it gives with the others silenced.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lra.treatments import heads, neurons
from lra.treatments.examples import calls_of


class Size(NamedTuple):
    """Shares of the whole, in (0, 1] each."""

    width: float
    depth: float


WHOLE = Size(1.0, 1.0)


def first(number: int, width: float) -> Tensor:
    """The numbers of the heads, or neurons, that a width has of so many."""
    return torch.arange(max(1, round(width * number)))


def kept(layers: int, depth: float) -> list[int]:
    """The numbers of the layers that a depth has of so many."""
    return [math.floor(i / depth) for i in range(max(1, round(depth * layers)))]


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of its stack. Raises ValueError unless each has a mixer of heads and a feed-forward layer."""
    layers = getattr(getattr(model, "stack", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError("the model has no stack of layers, of which there could be fewer")
    for layer in layers:
        if "mixer" not in heads.multiheads(layer):
            name = type(getattr(layer, "mixer", layer)).__name__
            raise ValueError(f"{name} has no heads that are told apart before its out-projection: no prefix of it")
        if "mlp" not in neurons.feed_forwards(layer):
            raise ValueError("beside each mixer there is no feed-forward layer of two linear ones: no prefix of it")
    return list(layers)


def inputs_of(trainee: Any) -> list[tuple[Any, ...]]:
    """What the mixer of each layer is called with for one training example."""
    found = calls_of(trainee, {str(i): layer.mixer for i, layer in enumerate(layers_of(trainee.model))})
    return [given for given, _ in found.values()]


def with_heads(mixer: nn.Module, order: Tensor, given: tuple[Any, ...], trainee: Any) -> nn.Module:
    """The mixer with these heads alone, in this order. Raises ValueError where there is no such mixer."""
    silent = heads.silence(copy.deepcopy(mixer), order)
    made = heads.of_heads(mixer, order, silent, given, trainee)
    if made is None:
        name = type(mixer).__name__
        raise ValueError(f"{name} is not what its heads make it each by itself, in any order: no prefix of it")
    return made.train(mixer.training)


def cut(trainee: Any, size: Size) -> nn.Module:
    """A copy of the model of that size. Raises ValueError where there is none."""
    given = inputs_of(trainee)
    made = copy.deepcopy(trainee.model)
    stack = made.stack
    chosen = kept(len(stack.layers), size.depth)
    for i in chosen:
        layer = stack.layers[i]
        few, neuron = first(layer.mixer.heads, size.width), first(layer.mlp.inner.out_features, size.width)
        if len(few) < layer.mixer.heads:
            layer.mixer = with_heads(layer.mixer, few, given[i], trainee)
        if len(neuron) < layer.mlp.inner.out_features:
            neurons.cut(layer.mlp, neuron)
    stack.layers = nn.ModuleList(stack.layers[i] for i in chosen)
    return made


class Prefix:
    """The network of that size whose numbers are those of `whole`, as they are when it is called, and which hands them
    their gradients. made: `cut` of that size, of which the form alone is used.

    states: of the last call what each layer is given and what the last one leaves (B, L, D), and where it is real.
    """

    def __init__(self, whole: nn.Module, made: nn.Module, size: Size, training: bool) -> None:
        self.whole, self.kept = whole, kept(len(whole.stack.layers), size.depth)
        self.made = made.to("meta").train(training)  # it has no numbers of its own that could be learnt, or read
        # Layers that are computed again in the backward pass would find those, and packed ones hide which is which.
        made.stack.checkpoint = made.stack.packs = False
        self.states: list[Tensor] = []
        self.mask: Tensor | None = None
        for layer in made.stack.layers:
            layer.register_forward_pre_hook(self._see)
        made.stack.layers[-1].register_forward_hook(lambda _, given, x: self.states.append(x))
        self.shapes = {name: value.shape for name, value in _numbers(made).items()}

    def _see(self, _: nn.Module, given: tuple[Tensor, Tensor]) -> None:
        self.states.append(given[0])
        self.mask = given[1]

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        self.states.clear()
        return functional_call(self.made, self.numbers(), (tokens, mask))

    def numbers(self) -> dict[str, Tensor]:
        """Parameters and buffers, each the beginning of the whole's."""
        known = _numbers(self.whole)
        return {name: _beginning(known[self.origin(name)], shape) for name, shape in self.shapes.items()}

    def origin(self, name: str) -> str:
        """How the whole calls it: "stack.layers.1.mixer.out.weight" is of the second layer that is kept."""
        parts = name.split(".")
        if parts[:2] == ["stack", "layers"]:
            parts[2] = str(self.kept[int(parts[2])])
        return ".".join(parts)


def _numbers(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _beginning(value: Tensor, shape: torch.Size) -> Tensor:
    return value if value.shape == shape else value[tuple(map(slice, shape))]
