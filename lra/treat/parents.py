"""Which records can be treated, and from what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lra.errors import UserError, nearest
from lra.marks import stats
from lra.record import store
from lra.record.answers import Answers
from lra.record.sheet import Damaged, Sheet, opened

SHOWN = 3  # ids of records that are named where one is not found


@dataclass(frozen=True)
class Parent:
    """line: from the run that was trained to the parent itself, each derived from the one before. results: the folder
    that what is made of it belongs to."""

    sheet: Sheet
    line: tuple[Sheet, ...]
    results: Path

    @property
    def root(self) -> Sheet:
        return self.line[0]


def parent(name: str, results: Path) -> Parent:
    """The record of that id or path. Raises UserError, in one line, for one that cannot be treated."""
    sheet = found(name, results)
    line = [sheet]
    while line[0].record.kind == "derived" and line[0].record.parent is not None:
        line.insert(0, found(line[0].record.parent, sheet.path.parents[3]))
    for each in line:
        _fit(each)
    if line[0].weights is None:
        raise UserError(f"record: {_name(line[0])} kept no weights; make the run with keep=best")
    if not line[0].weights.is_file():
        raise UserError(f"record: the weights {line[0].weights.name} of {_name(line[0])} are not beside it")
    for each in line:
        _whole(each)
    above_its_floor(sheet)
    return Parent(sheet, tuple(line), results)


def found(name: str, results: Path) -> Sheet:
    """Raises UserError where there is none, or where it is damaged."""
    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise UserError(f"record: {name} is no file")
    else:
        here = {p.stem: p for p in store.paths(results)}
        if name not in here:
            newest = ", ".join(list(here)[-SHOWN:]) or "none"
            raise UserError(f"record: {results / 'runs'} has no {name!r}; its newest: {newest}.{nearest(name, here)}")
        path = here[name]
    try:
        return opened(path.resolve())
    except Damaged as error:
        raise UserError(f"record: {error}") from error


def _name(sheet: Sheet) -> str:
    return sheet.record.run_id


def _fit(sheet: Sheet) -> None:
    r = sheet.record
    if r.kind not in ("model", "derived"):
        raise UserError(f"record: {_name(sheet)} is a {r.kind}; allowed: a model's, or a derived one")
    if r.status != "ok":
        raise UserError(f"record: {_name(sheet)} ended with status {r.status}; allowed: ok")
    if r.config.get("treatment"):
        raise UserError(
            f"record: {_name(sheet)} was trained with a treatment of its own; take one without as the parent"
        )
    if sheet.predictions is None or not sheet.predictions.is_file():
        raise UserError(f"record: the predictions of {_name(sheet)} are not beside it")


def _whole(sheet: Sheet) -> None:
    weights = sheet.weights
    if weights is None or not weights.is_file():
        return
    if hashlib.sha256(weights.read_bytes()).hexdigest() != sheet.record.kept["sha256"]:
        raise UserError(f"record: the weights {weights.name} are not those that {_name(sheet)} kept")


def above_its_floor(sheet: Sheet) -> None:
    """Refuse one that has learnt nothing, to which a treatment does nothing. Its floor: the best of the exam's own, the
    local rules on record and the commonest class."""
    answers = Answers()
    file = str(sheet.predictions)
    right, chance = answers.right([file]), answers.chance(file)
    if right is None or chance is None:
        raise UserError(f"record: the predictions of {_name(sheet)} {answers.broken.get(file, 'have no labels')}")
    rules = {"the commonest class": chance} | floors(sheet)
    name, floor = max(rules.items(), key=lambda rule: rule[1])
    low, high = map(float, stats.interval(right))
    if low <= floor:
        raise UserError(
            f"record: {_name(sheet)} stands at its floor: {100 * sheet.record.accuracy_test:.2f} % ({100 * low:.2f} to "
            f"{100 * high:.2f}), {name} {100 * floor:.2f} %; what is done to it would show nothing"
        )


def floors(sheet: Sheet) -> dict[str, float]:
    """Accuracies of what is blind to long range, on the same data, as far as they are on record."""
    r = sheet.record
    known = {"the exam's floor": r.score["floor"]} if r.score else {}
    for path in store.paths(sheet.path.parents[3], r.task):
        try:
            rule = opened(path).record if path.parent.name != r.model else None
        except Damaged:
            continue
        if rule is None or rule.kind != "floor" or rule.status != "ok" or not rule.local:
            continue
        if rule.data.get("fingerprint") == r.data.get("fingerprint") and rule.accuracy_test is not None:
            known[rule.model] = rule.accuracy_test
    return known
