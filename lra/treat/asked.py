"""What the words of `python -m lra.treat` ask for: each treatment of each parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lra.errors import UserError, nearest
from lra.marks.query import matches
from lra.settings import build, compose, identity
from lra.settings.identity import word
from lra.settings.schema import Settings
from lra.settings.sources import sources
from lra.settings.typed import plain, typed
from lra.settings.words import choices
from lra.treat import chosen
from lra.treat.parents import Parent

TAKEN = (
    "treatment", "results_dir", "output_dir", "data_dir", "threads", "device", "keep", "rerun",
)  # fmt: skip
# of which each is as a run takes it


@dataclass(frozen=True)
class Option:
    """A treatment with its settings. words: what departs from its own file. own: what else the command says."""

    name: str
    node: Mapping[str, Any]
    words: tuple[str, ...]
    own: Settings

    @property
    def label(self) -> str:
        return " ".join([self.name, *self.words])


@dataclass(frozen=True)
class Asked:
    """settings: the parent's, with this command's places and conditions."""

    parent: Parent
    settings: Settings
    option: Option

    @property
    def said(self) -> dict[str, Any]:
        """What a record keeps of the treatment."""
        node = self.option.node
        return {
            "name": self.option.name,
            "words": list(self.option.words),
            "settings": plain(node),
            "sources": sources(node),
        }

    @property
    def config_hash(self) -> str:
        """Of the parent's experiment and the treatment's settings."""
        node = identity.essential(plain(self.option.node), "treatment.")
        return identity.digest([self.parent.sheet.record.config_hash, node])

    @property
    def label(self) -> str:
        r = self.parent.sheet.record
        return f"{self.option.label} of {r.model} on {r.row}, budget {r.budget}, seed {r.seed} ({r.run_id})"


@dataclass(frozen=True)
class All:
    """jobs: each treatment of each parent, parents in order. left: a line for each parent or treatment that a glob or a
    choice names and that cannot be."""

    jobs: list[Asked]
    left: list[str]


def asked(words: Sequence[str], config_dir: str | Path | None = None) -> Asked:
    """The only one. Raises UserError as `jobs` does, and where the words ask for several."""
    found = jobs(words, config_dir).jobs
    if len(found) > 1:
        raise UserError(f"record, treatment: {len(found)} derived records are asked for; allowed here: one")
    return found[0]


def jobs(words: Sequence[str], config_dir: str | Path | None = None) -> All:
    """Raises UserError, in one line, for a word that says nothing here, a record that is named and cannot be treated, a
    value that a treatment does not take, and where nothing is left to be done."""
    given = keyed(words)
    if given.get("treatment", "none") == "none" or not any(key in given for key in ("record", *chosen.KEYS)):
        there = ", ".join(n for n in choices("treatment", config_dir) if n != "none")
        raise UserError(f"python -m lra.treat record=ID treatment=NAME: name both; the treatments: {there}")
    options, left = _options(given["treatment"], words, config_dir)
    if not options:
        raise UserError(f"treatment: {given['treatment']} leaves none: {'; '.join(left) or 'no name is like it'}")
    results = Path(options[0].own.results_dir)
    parents, without = chosen.parents(given, results)
    return All([Asked(p, of_parent(p, o.own), o) for p in parents for o in options], left + without)


def keyed(words: Sequence[str]) -> dict[str, str]:
    """Each key with its value. Raises UserError for a word that says nothing here."""
    known = ["record", *chosen.KEYS, *TAKEN]
    for each in words:
        key, equals, _ = each.partition("=")
        if not equals or not (key in known or key.startswith("treatment.")):
            raise UserError(
                f"{each!r} is not an option; allowed: {'=, '.join(known)}=, treatment.KEY={nearest(key, known)}"
            )
    return {key: value for key, _, value in (w.partition("=") for w in words)}


def _options(names: str, words: Sequence[str], config_dir: str | Path | None) -> tuple[list[Option], list[str]]:
    """Of each name all values of each treatment.KEY; (those, a line for each that a glob names and that cannot be)."""
    there, found, left = choices("treatment", config_dir), [], []
    for name in chosen.listed("treatment", names):
        several = any(c in name for c in "*?")
        for each in [n for n in there if n != "none" and matches(name, n)] if several else [name]:
            try:
                found += [o for o in _of(each, words, config_dir) if o not in found]
            except UserError as error:
                if not several:
                    raise
                left.append(f"{each}: {error}")
    return found, left


def _of(name: str, words: Sequence[str], config_dir: str | Path | None) -> list[Option]:
    """The treatment at all values of its settings that are asked for. Raises UserError."""
    other = [w for w in words if w.partition("=")[0] in TAKEN and not w.startswith("treatment=")]
    usual = compose.config([f"treatment={name}"], config_dir).treatment
    found = []
    for said in _product([w for w in words if w.startswith("treatment.")]):
        own = compose.config([f"treatment={name}", *other, *said], config_dir)
        departs = tuple(f"{k}={word(v)}" for k, v in own.treatment.items() if k not in usual or usual[k] != v)
        made = build.instantiate(own.treatment, "treatment")
        if hasattr(made, "before") or not hasattr(made, "after"):
            raise UserError(f"treatment: {name} is done before a model is trained: python -m lra … treatment={name}")
        found.append(Option(name, own.treatment, departs, own))
    return found


def _product(words: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that the words list, as a sweep has them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    out: list[list[str]] = [[]]
    for each in words:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([each])
        except OverrideParseException as error:
            raise UserError(f"{each!r} is no key=value") from error
        key = each.partition("=")[0]
        values = [f"{key}={v}" for v in parsed.sweep_string_iterator()] if parsed.is_sweep_override() else [each]
        out = [[*before, value] for before in out for value in values]
    return out


def of_parent(known: Parent, own: Settings) -> Settings:
    """What the parent was asked to do, here; in the results folder that it lies in."""
    r = known.root.record
    recorded = typed(dict(r.config))
    threads = own.threads or r.machine.get("threads")
    task = {**recorded.task, "data_dir": own.data_dir} if "_target_" in recorded.task else recorded.task
    places = {k: getattr(own, k) for k in ("data_dir", "output_dir", "device", "keep", "rerun")}
    return replace(recorded, task=task, threads=threads, results_dir=str(known.results), **places)
