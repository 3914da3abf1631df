"""Who is handed what: `models.parts.factory`."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from lra.models.parts.factory import accepted, build, name_of


def named(dim: int, heads: int = 1, rotary: bool = False) -> dict[str, Any]:
    return {"dim": dim, "heads": heads, "rotary": rotary}


def anything(**facts: Any) -> dict[str, Any]:
    return facts


def unturned(dim: int) -> int:
    return dim


FACTS = {"dim": 8, "heads": 2, "depth": 3}


def test_a_factory_is_handed_what_it_names() -> None:
    assert build(named, **FACTS) == {"dim": 8, "heads": 2, "rotary": False}
    assert build(named, **FACTS, rotary=True)["rotary"] is True
    assert build(anything, **FACTS) == FACTS


def test_what_is_bound_wins() -> None:
    assert build(partial(named, heads=5), **FACTS)["heads"] == 5
    assert build(partial(partial(named, heads=5), rotary=True), **FACTS) == {"dim": 8, "heads": 5, "rotary": True}
    assert build(partial(anything, heads=5), **FACTS) == {**FACTS, "heads": 5}
    assert accepted(partial(partial(named, heads=5), rotary=True)) == {"dim"}
    assert accepted(partial(anything, heads=5)) is None


def test_rotary_is_never_dropped_silently() -> None:
    with pytest.raises(ValueError, match=r"model\.position: rotary is not possible for unturned"):
        build(partial(unturned), **FACTS, rotary=True)
    assert build(unturned, **FACTS, rotary=False) == 8
    assert build(anything, rotary=True) == {"rotary": True}
    assert name_of(partial(partial(named, heads=5), dim=1)) == "named"
