"""Build mixers and stacks from factories: each is handed only the facts that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


def accepted(factory: Callable) -> set[str] | None:
    """Names of the keyword parameters of a class or (nested) partial; None if it takes any."""
    bound: set[str] = set()
    while isinstance(factory, partial):
        bound |= set(factory.keywords)
        factory = factory.func
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters} - bound


def build(factory: Callable, **facts: Any) -> Any:
    """Call `factory` with those of `facts` that it names.

    What the configuration has already bound (a `partial` made by Hydra) wins over the fact of the
    same name, so a YAML can fix, say, `heads`. Raises ValueError for `rotary=True` on a mixer that
    cannot rotate, because dropping it silently would change the experiment.
    """
    names = accepted(factory)
    if facts.get("rotary") and names is not None and "rotary" not in names:
        raise ValueError(
            f"model.position: rotary is not possible for {name_of(factory)}, which has no query-key"
            " product to rotate; use learned, sinusoidal or none"
        )
    if names is None:
        bound = factory.keywords if isinstance(factory, partial) else {}
        return factory(**{k: v for k, v in facts.items() if k not in bound})
    return factory(**{k: v for k, v in facts.items() if k in names})


def name_of(factory: Callable) -> str:
    """Name of the class behind a (nested) partial."""
    while isinstance(factory, partial):
        factory = factory.func
    return factory.__name__
