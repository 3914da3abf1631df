"""What tables know of an exam: what it is or stands in for, its heading, order and averages.

It stands in the exam's YAML (`exam: {of:, title:, order:, averages:, all_or_nothing:, asks:}`), from where a run
copies it into its record. Records without it are of exams that this package brings, whose YAMLs are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lra.root import CONFIGS

LAST = float("inf")


@dataclass(frozen=True)
class Exam:
    """of: the row of the exam itself, in whose column a stand-in may stand. averages: the numbers of those it
    counts in, 5 of Avg5. all_or_nothing: a seed learns it or stays at chance. asks: of an exam of an ability, the
    mechanism that it asks for, in a word or two."""

    of: str
    title: str
    order: float = LAST
    averages: tuple[int, ...] = ()
    all_or_nothing: bool = False
    asks: str = ""
    known: bool = True  # somewhere declared; else a row of its own under its own name

    def heading(self, row: str) -> str:
        """A row's heading, which names all that departs from the standard: "Image (jpeg, test500)"."""
        if row == self.of or not self.known:
            return self.title
        rest = row[len(self.of) + 1 :] if row.startswith((f"{self.of}_", f"{self.of}-")) else row
        return f"{self.title} ({rest.replace('-', ', ')})"


DECLARED = tuple(f.name for f in fields(Exam) if f.name != "known")


class Exams:
    """The exams of a results folder. Equal ones are one object, however many records name them."""

    def __init__(self, own: Path | None = None) -> None:
        """own: a folder of configs beside ours, as `--config-dir` names one."""
        self.shipped = shipped(CONFIGS / "task") | (shipped(own / "task") if own else {})
        self._same: dict[Exam, Exam] = {e: e for e in self.shipped.values()}
        self.revisions = {
            (part, name): number
            for folder in (CONFIGS, *([own] if own else []))
            for part in ("task", "model")
            for name, number in revisions(folder / part, part).items()
        }

    def of(self, task: str, row: str, declared: Mapping[str, Any] | None) -> Exam:
        """From what the record declares; else as shipped; else the row itself, last and in no average."""
        whole = declared is not None and {"of", "title"} <= set(declared)
        exam = made(declared) if whole else self.shipped.get(task) or Exam(row, row, known=False)
        return self._same.setdefault(exam, exam)

    def changed_since(self, task: str, model: str, config: Mapping[str, Any]) -> str | None:
        """Whether the numbers of the model or the exam have changed since: "revision 1 of the model, now 2"."""
        was, now = config.get("revision"), {"task": (task, 1), "model": (model, 1)}
        was = was if isinstance(was, Mapping) else {}
        found = []
        for part, (name, first) in now.items():
            old, new = was.get(part, first), self.revisions.get((part, name), first)
            if old != new:
                found.append(f"revision {old} of the {part}, now {new}")
        return "; ".join(found) or None

    def always(self) -> list[Exam]:
        """The exams that every board has a column for, with or without a run: those that averages are over."""
        return sorted({e for e in self.shipped.values() if e.averages}, key=lambda e: e.order)


def shipped(folder: Path) -> dict[str, Exam]:
    """Task -> exam, of the YAMLs in a folder that declare one."""
    import yaml  # a door that shows no exam does without

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    out = {}
    for path in sorted(folder.glob("*.yaml")):
        declared = (yaml.load(path.read_text(), loader) or {}).get("exam")
        if declared:
            out[path.stem] = made(declared)
    return out


def revisions(folder: Path, part: str) -> dict[str, int]:
    """Of the YAMLs in a folder that say so, by name."""
    import yaml

    out = {}
    for path in sorted(folder.glob("*.yaml")):
        if "revision:" in (text := path.read_text()):
            number = (yaml.safe_load(text) or {}).get("revision", {}).get(part, 1)
            out[path.stem] = number
    return out


def made(declared: Mapping[str, Any]) -> Exam:
    values = {name: declared[name] for name in DECLARED if name in declared}
    return Exam(**values | {"averages": tuple(values.get("averages", ()))})


def ordered(rows: Iterable[str], exams: Iterable[Exam]) -> Callable[[str], tuple[float, str]]:
    """A key that sorts rows by their exams' order, then by name."""
    known = dict(zip(rows, exams, strict=True))
    return lambda row: (known[row].order if row in known else LAST, row)


def averaged_row(exam: str, models: Mapping[str, int]) -> str:
    """Of an exam's rows, with how many models have an accuracy there, the one that averages take: the
    standard one if any model has it, else the row with most models, the first by name among equals."""
    return max(sorted(models), key=lambda row: (row == exam and models[row] > 0, models[row]))
