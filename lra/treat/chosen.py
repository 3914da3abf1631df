"""Which trained models the words of `python -m lra.treat` name.

    record=ID,ID   record=results/runs/*/linear/*.json   record=20260101T*      ids and paths, or globs of either
    model=linear,lin*   task=recall   budget=treat   seed=0,1                   what the records are of

A record that is named as a whole must be one that can be treated. Of those that a glob or a choice finds, the ones that
kept no weights are nobody's parents; another that cannot be treated is told in a line and left out. A choice without
`record` is of trained models; a glob finds derived records too, for chains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path

from lra.errors import UserError, nearest
from lra.marks.query import matches
from lra.record import store
from lra.record.sheet import Damaged, Sheet, opened
from lra.treat.parents import Parent, parent

KEYS = ("model", "task", "budget", "seed")


def parents(given: Mapping[str, str], results: Path) -> tuple[list[Parent], list[str]]:
    """(parents, a line for each that was left out). results: the folder that is looked through, and that ids are of.
    Raises UserError for a record that is named and cannot be treated, and where none is left."""
    choice = {key: listed(key, given[key]) for key in KEYS if key in given}
    found: dict[Path, Parent] = {}
    left = []
    kinds = ("model", "derived") if "record" in given else ("model",)
    names = listed("record", given["record"]) if "record" in given else ["*"]
    for name in names:
        if not any(c in name for c in "*?"):
            one = parent(name, _results(name, results, given))
            if _is_of(one.sheet, choice):
                found[one.sheet.path] = one
            continue
        for sheet in _like(name, results, left):
            if sheet.record.kept is None or sheet.record.kind not in kinds or not _is_of(sheet, choice):
                continue
            try:
                found[sheet.path] = parent(str(sheet.path), _results(str(sheet.path), results, {}))
            except UserError as error:
                left.append(str(error).removeprefix("record: "))
    if not found:
        asked = " ".join(f"{key}={given[key]}" for key in ("record", *KEYS) if key in given)
        kept = _kept(results)
        said = f"; {len(left)} cannot be: {left[0]}" if left else ""
        raise UserError(
            f"{asked}: of no record that kept its weights (keep=best); of those in {results} there is "
            f"{', '.join(kept) or 'none'}{said}.{_meant(choice, kept)}"
        )
    return list(found.values()), left


def listed(key: str, value: str) -> list[str]:
    """The names of a list, as they are typed. Raises UserError for an empty one."""
    if key == "record" and Path(value).is_file():
        return [value]
    names = [name.strip() for name in value.removeprefix("[").removesuffix("]").split(",")]
    if not all(names):
        raise UserError(f"{key}: {value!r} has an empty name; allowed: a list of names, * and ? for any letters")
    return list(dict.fromkeys(names))


def _results(name: str, results: Path, given: Mapping[str, str]) -> Path:
    """The folder that a record lies in; of an id, and of a path where one is named, that which is looked through."""
    if not name.endswith(".json") or "results_dir" in given:
        return results
    places = Path(name).resolve().parents
    if len(places) < 4 or places[2].name != "runs":
        raise UserError(f"record: {name} lies in no results folder; allowed RESULTS/runs/TASK/MODEL/ID.json")
    return places[3]


def _like(name: str, results: Path, left: list[str]) -> Iterator[Sheet]:
    """The records whose path, or id, is like it, oldest first; of damaged ones a line is left."""
    by_path = "/" in name or name.endswith(".json")
    if by_path:
        paths = sorted(map(Path, glob(name)))  # noqa: PTH207 - pathlib's takes no absolute one
    else:
        paths = [p for p in store.paths(results) if matches(name, p.stem)]
    for path in paths:
        try:
            yield opened(path.resolve())
        except Damaged as error:
            left.append(str(error))


def _is_of(sheet: Sheet, choice: Mapping[str, list[str]]) -> bool:
    return all(any(matches(n, str(getattr(sheet.record, key))) for n in names) for key, names in choice.items())


def _kept(results: Path) -> list[str]:
    """The models that kept weights there."""
    found = {s.record.model for s in store.sheets(results, lambda _: None) if s.record.kept is not None}
    return sorted(found)


def _meant(choice: Mapping[str, list[str]], kept: list[str]) -> str:
    return next((said for name in choice.get("model", ()) if (said := nearest(name, kept))), "")
