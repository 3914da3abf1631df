"""A results folder, read once and handed on as one object: what every table, chart and check is made of.

    results = lra.results.load("results")
    results.cells[["row", "model", "accuracy", "low", "high"]]
    results.select(model="performer,lin*", task="listops").cells

Neither torch nor the data are needed. Frames are worked out when first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lra import ledger
from lra.cost import points
from lra.errors import UserError
from lra.marks import abilities, about, cells, derived, race, runs
from lra.marks.exams import Exams
from lra.marks.query import Query, query
from lra.record import store
from lra.record.answers import Answers
from lra.record.record import digest_of
from lra.record.sheet import Damaged, Sheet

EDITED = "shown, but edited after it was written"


@dataclass(repr=False)
class Results:
    """What the records of a folder hold, in rows; a record itself is kept no longer than it is read.

    folder     where what they give is published; of several the first
    folders    all of them
    damaged    (file below the folder, what is wrong with it), of what is no record
    misplaced  (file, where it says it is)
    conflicts  (file, what it is in conflict with): of one name in two folders, and not the same
    config_dir where, besides our configs, models and exams may be declared
    chosen     what of it is shown; whole: all that it was chosen from
    """

    folder: Path
    folders: tuple[Path, ...] = ()
    config_dir: Path | None = None
    exams: Exams = field(default_factory=Exams)
    answers: Answers = field(default_factory=Answers)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    misplaced: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)  # files that an earlier folder has too
    chosen: Query = field(default_factory=Query)
    _whole: Results | None = field(default=None, repr=False)
    _seen: dict[str, tuple[Path, str]] = field(default_factory=dict, repr=False)
    _runs: list[tuple[Any, ...]] = field(default_factory=list, repr=False)
    _points: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _learning: list[tuple[Any, ...]] = field(default_factory=list, repr=False)
    _scores: list[tuple[Any, ...]] = field(default_factory=list, repr=False)
    _racing: list[tuple[Any, ...]] = field(default_factory=list, repr=False)
    _derived: list[tuple[Any, ...]] = field(default_factory=list, repr=False)
    _trials: list[tuple[Any, ...]] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in self.runs.kind.value_counts().items())
        return f"<results in {self.folder}: {len(self.runs)} records ({kinds or 'none'}), {len(self.broken)} not shown>"

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a record, lra.marks.runs.COLUMNS."""
        return runs.frame(self._runs)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row for each budget, precision, task row and model, over all machines: lra.marks.cells.cells."""
        return cells.cells(self.runs, self.answers, self.timed)

    @cached_property
    def timed(self) -> pd.DataFrame:
        """What the same cost, a row for each machine too: lra.marks.cells.timed."""
        return cells.timed(self.runs)

    @cached_property
    def every_exam(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`cells` and `timed` with the exams of abilities among them, of which `abilities` says more."""
        whole, known = self.whole, about.families(self.config_dir)
        costs = cells.timed(whole.runs, abilities=True)
        scored = cells.cells(whole.runs, whole.answers, costs, abilities=True)
        more = self.chosen.of(scored, known) if self.chosen else scored
        pairs = (self.cells, more), (self.timed, costs)
        return tuple(pd.concat([f for f in pair if len(f)] or pair, ignore_index=True) for pair in pairs)

    @cached_property
    def abilities(self) -> pd.DataFrame:
        """A row for each budget, precision, row of an exam of an ability and model: lra.marks.abilities.cells."""
        return abilities.cells(self.runs, abilities.frame(self._scores), self.answers)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial of a search, lra.marks.runs.COLUMNS: in no other frame, as none has sat the test."""
        return runs.frame(self._trials)

    @property
    def whole(self) -> Results:
        """All that this was chosen from; itself where nothing was."""
        return self._whole or self

    def select(self, **choice: str | Sequence[str] | None) -> Results:
        """The same with those cells, abilities and points alone that are chosen: model=, task=, family=, budget=,
        machine=, variant= as lra.marks.query has them; columns= and sort= count where tables are made of it.

        Ranks are those of the whole board, whatever is chosen. Raises UserError for a choice that is empty.
        """
        return self.selected(query(**choice))

    def selected(self, chosen: Query) -> Results:
        if not chosen:
            return self
        known, whole = about.families(self.config_dir), self.whole
        if chosen.machine:  # whose costs are shown
            costs = cells.costed(
                whole.cells, whole.timed, lambda name: chosen.place("machine", name) < len(chosen.machine)
            )
            whole = copy(whole)
            vars(whole).update(cells=costs)
        frames = {name: getattr(whole, name) for name in ("cells", "abilities", "points")}
        chosen.check(list(frames.values()), known)
        out = copy(whole)
        vars(out).update({name: chosen.of(frame, known) for name, frame in frames.items()})
        out.chosen, out._whole = chosen, whole
        return out

    @cached_property
    def floors(self) -> pd.DataFrame:
        """The newest floor of each task row, rule and data, with the columns of `runs`."""
        return runs.floors(self.runs)

    @cached_property
    def points(self) -> pd.DataFrame:
        """A row a point and phase of the cost curves, lra.cost.points.COLUMNS."""
        return points.frame(self._points)

    @cached_property
    def learning(self) -> pd.DataFrame:
        """A row for each evaluation of a run while it trained, lra.marks.runs.EVALUATED."""
        return runs.learning(self._learning)

    @cached_property
    def racing(self) -> pd.DataFrame:
        """A row for each evaluation of a run that was asked for by minutes, lra.marks.race.COLUMNS."""
        return race.frame(self._racing)

    @cached_property
    def derived(self) -> pd.DataFrame:
        """A row a derived record: lra.marks.derived.frame."""
        return derived.frame(self._derived, self.runs)

    @cached_property
    def published(self) -> pd.DataFrame:
        """What papers print, a row a cell: lra.ledger.load. Raises UserError for a bad ledger."""
        return ledger.load(ledger.place(self.folder))

    @property
    def broken(self) -> list[tuple[str, str]]:
        """(file below the folder, one line) of what cannot be shown: records, and answers read until now."""
        return self.damaged + [(self.below(Path(path)), said) for path, said in self.answers.broken.items()]

    def remarks(self) -> list[str]:
        """A line for each file that is not shown, and for each that is although somebody changed it."""
        edited = self.runs.file[self.runs.edited.astype(bool)]
        out = [f"not shown: {file}: {said}" for file, said in [*self.broken, *self.conflicts]]
        return out + [f"{EDITED}: {file}" for file in edited]

    def charted(self) -> Results:
        """The same with the frames that charts of models show and without the rows they are made of, which are
        many: to be handed to another process."""
        out = Results(self.folder, self.folders, self.config_dir, self.exams)
        vars(out).update(cells=self.cells, points=self.points, floors=self.floors, timed=self.timed)
        if self._whole is not None:
            out.chosen, out._whole = self.chosen, self._whole.charted()
        return out

    def take(self, sheet: Sheet) -> None:
        """Keep what tables need of a record."""
        file = self.below(sheet.path)
        if len(self.folders) > 1 and self._has(sheet, file):
            return
        self._place(sheet, file)
        if runs.is_trial(sheet.record):
            self._trials.append(runs.row(sheet, file, self.exams))
            return
        self._runs.append(runs.row(sheet, file, self.exams))
        self._points += points.rows(sheet)
        self._learning += runs.evaluations(sheet.record)
        self._scores += abilities.scored(sheet.record, file)
        self._racing += race.rows(sheet.record)
        if sheet.record.kind == "derived":
            self._derived.append(derived.row(sheet.record, sheet.edited))

    def _place(self, sheet: Sheet, file: str) -> None:
        """Does the record lie where it says?"""
        own = f"runs/{sheet.record.task}/{sheet.record.model}/{sheet.record.run_id}.json"
        if sheet.path.relative_to(self._folder(sheet.path)).as_posix() != own:
            self.misplaced.append((file, own))

    def _has(self, sheet: Sheet, file: str) -> bool:
        """Does an earlier folder hold a record of this name?"""
        digest = sheet.record.digest or digest_of(sheet.raw)
        first, its_digest = self._seen.setdefault(sheet.record.run_id, (sheet.path, digest))
        if self._folder(first) == self._folder(sheet.path):
            return False
        self.repeated.append(file)
        if digest != its_digest:
            said = f"is another record than {self.below(first)}, which has its name; that one is shown"
            self.conflicts.append((file, said))
        return True

    def refuse(self, error: Damaged) -> None:
        self.damaged.append((self.below(error.path), error.said))

    def below(self, path: Path) -> str:
        """Its name below its folder; of several folders, but for the first, with that of the folder."""
        folder = self._folder(path)
        below = path.relative_to(folder).as_posix()
        return below if folder == self.folder else f"{folder.as_posix()}/{below}"

    def _folder(self, path: Path) -> Path:
        return next(folder for folder in self.folders or (self.folder,) if path.is_relative_to(folder))


def load(folder: str | Path | Sequence[str | Path], config_dir: Path | None = None) -> Results:
    """Read all records below a results folder, or several, once. A file that is no record is in `broken` and nowhere
    else; a record that lies in two of them counts once.
    config_dir: where, besides our configs, exams may be declared that old records do not describe."""
    folders = [Path(f) for f in ([folder] if isinstance(folder, (str, Path)) else folder)]
    if not folders:
        raise UserError("results_dir: no folder is named")
    results = Results(folders[0], tuple(folders), config_dir, Exams(config_dir))
    for each in folders:
        for sheet in store.sheets(each, results.refuse):
            results.take(sheet)
    return results
