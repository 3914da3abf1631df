"""The points of the audit, and the card that they make."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra.errors import UserError, nearest
from lra.machine.facts import machine
from lra.record.place import published
from lra.settings import compose
from lra.settings.files import told
from lra.settings.own import Asked
from lra.settings.typed import plain

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
        "parts": contract.parts,
        "order": sight.order,
        "bf16": contract.bf16,
        "readout": sight.readout,
        "reach": sight.reach,
    }


def all_points(what: Asked) -> dict[str, Callable[[Subject], Any]]:
    """Those, and the two that start a process or take half a minute."""
    from lra.check.contract import process
    from lra.check.growth import growth

    def elsewhere(subject: Subject) -> Finding:
        return process(subject, what)

    return {**points(), "process": elsewhere, "growth": growth}


def chosen(what: Asked, only: Sequence[str] | None) -> dict[str, Callable[[Subject], Any]]:
    """The points that are to be asked. UserError for one that there is not."""
    known = all_points(what)
    for name in only or ():
        if name not in known:
            raise UserError(f"--only: {name!r} is not one of {', '.join(known)}.{nearest(name, known)}")
    return {name: point for name, point in known.items() if only is None or name in only}


def ask(name: str, point: Callable[[Subject], Any], subject: Subject) -> list[Finding]:
    """One point's findings; whatever it raises is a finding too."""
    from lra.check.subject import Finding

    try:
        found = point(subject)
    except UserError:
        raise
    except Exception as error:
        return [Finding(name, "fail", told(error))]
    return found if isinstance(found, list) else [found]


@dataclass
class Card:
    """What the audit found; prints as it does in the terminal."""

    model: str
    length: int
    config: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    only: tuple[str, ...] = ()  # the points that were asked, if not all

    @property
    def broken(self) -> list[str]:
        return [f.name for f in self.findings if f.status == "fail"]

    @property
    def holds(self) -> bool:
        """Of the points that were asked."""
        return not self.broken

    def __str__(self) -> str:
        return "\n".join([self.heading, *map(line, self.findings), self.verdict])

    __repr__ = __str__

    @property
    def heading(self) -> str:
        body = self.config["model"]
        sizes = f"{body['depth']} layers, width {body['dim']}, {body['heads']} heads, {body['position']} positions"
        return f"{self.model}: {sizes}"

    @property
    def verdict(self) -> str:
        if self.broken:
            return f"broken: {', '.join(self.broken)}"
        return f"nothing is broken of what was asked: {', '.join(self.only)}" if self.only else "the contract holds"

    @property
    def file(self) -> str:
        """Its name by default: an audit of some points does not replace the whole one's."""
        return f"{'.'.join([self.model, *self.only])}.json"

    def write(self, path: Path) -> None:
        """As JSON, with the conditions under which it was found."""
        card = {
            "schema": 1,
            "model": self.model,
            "holds": self.holds,
            "only": list(self.only) or None,
            "length": self.length,
            "config": self.config,
            "machine": machine("cpu"),
            "seconds": round(self.seconds, 1),
            "findings": [f.asdict() for f in self.findings],
        }
        published("--json", path.parent, {path.name: (json.dumps(card, indent=1) + "\n").encode()})


def line(finding: Finding) -> str:
    return f"  {MARKS[finding.status]}  {finding.name:<13} {finding.text}"


def audited(
    what: Asked, length: int = 1024, only: Sequence[str] | None = None, tell: Callable[[str], None] = lambda _: None
) -> Card:
    """The card of the model that the words name. tell: is handed each line as soon as it is known.

    Raises UserError for bad words, for points that there are not, and for a model without a `stack`.
    """
    if length < 2:
        raise UserError(f"--length: {length} is not at least 2")
    # Composing needs no torch: what is wrong with the words is said at once.
    settings = compose.config(what.words, what.config_dir)
    asked = chosen(what, only)
    from lra.check.subject import Subject

    subject = Subject(settings, length)
    built = subject.build()
    if not hasattr(built, "stack"):
        raise UserError(f"model: {type(built).__name__} has no `stack` to audit (lra.models.classifier.Classifier has)")
    begin = time.perf_counter()
    card = Card(settings.choices.model, length, plain(settings), only=tuple(dict.fromkeys(only or ())))
    tell(card.heading)
    for name, point in asked.items():
        for finding in ask(name, point, subject):
            card.findings.append(finding)
            before = next((f.name for f in card.findings[:-1] if (f.status, f.text) == ("fail", finding.text)), None)
            tell(line(finding if before is None else replace(finding, text=f"the same as {before}")))
    card.seconds = time.perf_counter() - begin
    return card
