"""stub until merge"""

from __future__ import annotations


def resolved(target: str) -> str:
    return f"lra.{target}" if target.split(".")[0] in ("models", "tasks") else target


def canonical_target(target: str) -> str:
    found = resolved(target)
    return found.rsplit(".", 1)[-1] if found.startswith("lra.") else found
