"""What the words of `python -m lra.treat` ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lra.errors import UserError, nearest
from lra.settings import build, compose
from lra.settings.identity import word
from lra.settings.schema import Settings
from lra.settings.sources import sources
from lra.settings.typed import plain, typed
from lra.settings.words import choices
from lra.treat.parents import Parent, parent

TAKEN = ("treatment", "results_dir", "output_dir", "data_dir", "threads", "device", "keep")  # as a run takes them


@dataclass(frozen=True)
class Asked:
    """settings: the parent's, with this command's places and conditions. words: what departs from the treatment's own
    file."""

    parent: Parent
    settings: Settings
    name: str
    node: Mapping[str, Any]
    words: tuple[str, ...]

    @property
    def said(self) -> dict[str, Any]:
        """What a record keeps of the treatment."""
        return {
            "name": self.name,
            "words": list(self.words),
            "settings": plain(self.node),
            "sources": sources(self.node),
        }

    @property
    def label(self) -> str:
        return " ".join([self.name, *self.words])


def asked(words: Sequence[str], config_dir: str | Path | None = None) -> Asked:
    """Raises UserError, in one line, for a word that says nothing here, a record that cannot be treated, and a value
    that the treatment does not take."""
    given = {key: value for key, _, value in (w.partition("=") for w in words)}
    for w in words:
        key, equals, _ = w.partition("=")
        if not equals or not (key in ("record", *TAKEN) or key.startswith("treatment.")):
            known = ["record", *TAKEN]
            raise UserError(
                f"{w!r} is not an option; allowed: {'=, '.join(known)}=, treatment.KEY={nearest(key, known)}"
            )
    name = given.get("treatment", "none")
    if "record" not in given or name == "none":
        there = ", ".join(n for n in choices("treatment", config_dir) if n != "none")
        raise UserError(f"python -m lra.treat record=ID treatment=NAME: name both; the treatments: {there}")
    place = [f"results_dir={_results(given['record'])}"] if _is_path(given) else []
    own = compose.config([*place, *(w for w in words if not w.startswith("record="))], config_dir)
    usual = compose.config([f"treatment={name}"], config_dir).treatment
    departs = tuple(f"{k}={word(v)}" for k, v in own.treatment.items() if k not in usual or usual[k] != v)
    if not hasattr(build.instantiate(own.treatment, "treatment"), "after"):
        raise UserError(f"treatment: {name} is done before a model is trained: python -m lra … treatment={name}")
    known = parent(given["record"], Path(own.results_dir))
    return Asked(known, of_parent(known, own), name, own.treatment, departs)


def _is_path(given: Mapping[str, str]) -> bool:
    return given["record"].endswith(".json") and "results_dir" not in given


def _results(record: str) -> str:
    """The results folder that a record lies in."""
    parts = Path(record).resolve().parents
    if len(parts) < 4 or parts[2].name != "runs":
        raise UserError(f"record: {record} lies in no results folder; allowed RESULTS/runs/TASK/MODEL/ID.json")
    return str(parts[3])


def of_parent(known: Parent, own: Settings) -> Settings:
    """What the parent was asked to do, here."""
    r = known.root.record
    recorded = typed(dict(r.config))
    threads = own.threads or r.machine.get("threads")
    task = {**recorded.task, "data_dir": own.data_dir} if "_target_" in recorded.task else recorded.task
    places = {k: getattr(own, k) for k in ("data_dir", "results_dir", "output_dir", "device", "keep")}
    return replace(recorded, task=task, threads=threads, **places)
