"""The points of the audit, and the card that they make."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra.errors import UserError

if TYPE_CHECKING:
    from lra.check.subject import Finding, Subject


MARKS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}


def points() -> dict[str, Callable[[Subject], Finding]]:
    """The points that need nothing but the model and a second or so, in the order of the card."""
    from lra.check import contract, sight

    return {
        "size": contract.size,
        "shapes": contract.shapes,
        "finite": contract.finite,
        "gradients": contract.gradients,
        "repeatable": contract.repeatable,
        "padding": contract.padding,
        "batch": contract.batch,
        "order": sight.order,
        "bf16": contract.bf16,
        "reach": sight.reach,
    }


def all_points(overrides: list[str], config_dir: str | None) -> dict[str, Callable[[Subject], Any]]:
    """Those, and the two that start a process or take half a minute."""
    from lra.check.contract import process
    from lra.check.growth import growth

    def elsewhere(subject: Subject) -> Finding:
        return process(subject, overrides, config_dir)

    return {**points(), "process": elsewhere, "growth": growth}


def ask(name: str, point: Callable[[Subject], Any], subject: Subject) -> list[Finding]:
    """One point's findings; whatever it raises is a finding too."""
    from lra.check.subject import Finding

    try:
        found = point(subject)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or "no message"
        return [Finding(name, "fail", f"{type(error).__name__}: {reason[:300]}")]
    return found if isinstance(found, list) else [found]


def write(path: Path, facts: dict[str, Any], findings: list[Finding], start: float) -> None:
    """The card as JSON, with the conditions under which it was found."""
    from lra.machine.facts import machine

    card = {
        "schema": 1,
        **facts,
        "machine": machine("cpu"),
        "seconds": round(time.perf_counter() - start, 1),
        "findings": [f.asdict() for f in findings],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(card, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--json: {path} cannot be written: {error.strerror}") from error
