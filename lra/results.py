"""A results folder, read once and handed on as one object: what every table, chart and check is made of.

    results = lra.results.load("results")
    results.cells[["row", "model", "accuracy", "low", "high"]]

Neither torch nor the data are needed. Frames are worked out when first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lra import ledger
from lra.cost import points
from lra.marks import cells, runs
from lra.marks.exams import Exams
from lra.record import store
from lra.record.answers import Answers
from lra.record.sheet import Damaged, Sheet

EDITED = "shown, but edited after it was written"


@dataclass(repr=False)
class Results:
    """What the records of a folder hold, in rows; a record itself is kept no longer than it is read.

    damaged    (file below the folder, what is wrong with it), of what is no record
    misplaced  (file, where it says it is)
    """

    folder: Path
    exams: Exams = field(default_factory=Exams)
    answers: Answers = field(default_factory=Answers)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    misplaced: list[tuple[str, str]] = field(default_factory=list)
    _runs: list[tuple[Any, ...]] = field(default_factory=list, repr=False)
    _points: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _learning: list[tuple[Any, ...]] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in self.runs.kind.value_counts().items())
        return f"<results in {self.folder}: {len(self.runs)} records ({kinds or 'none'}), {len(self.broken)} not shown>"

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a record, lra.marks.runs.COLUMNS."""
        return runs.frame(self._runs)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row for each budget, machine, precision, task row and model: lra.marks.cells.cells."""
        return cells.cells(self.runs, self.answers)

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
    def published(self) -> pd.DataFrame:
        """What papers print, a row a cell: lra.ledger.load. Raises UserError for a bad ledger."""
        return ledger.load(ledger.place(self.folder))

    @property
    def broken(self) -> list[tuple[str, str]]:
        """(file below the folder, one line) of what cannot be shown: records, and answers read until now."""
        return self.damaged + [(self._below(Path(path)), said) for path, said in self.answers.broken.items()]

    def remarks(self) -> list[str]:
        """A line for each file that is not shown, and for each that is although somebody changed it."""
        edited = self.runs.file[self.runs.edited.astype(bool)]
        return [f"not shown: {file}: {said}" for file, said in self.broken] + [f"{EDITED}: {file}" for file in edited]

    def charted(self) -> Results:
        """The same with the frames that charts of models show and without the rows they are made of, which are
        many: to be handed to another process."""
        out = Results(self.folder, self.exams)
        vars(out).update(cells=self.cells, points=self.points, floors=self.floors)
        return out

    def take(self, sheet: Sheet) -> None:
        """Keep what tables need of a record."""
        file = self._below(sheet.path)
        self._runs.append(runs.row(sheet, file, self.exams))
        self._points += points.rows(sheet)
        self._learning += runs.evaluations(sheet.record)
        own = f"runs/{sheet.record.task}/{sheet.record.model}/{sheet.record.run_id}.json"
        if file != own:
            self.misplaced.append((file, own))

    def refuse(self, error: Damaged) -> None:
        self.damaged.append((self._below(error.path), error.said))

    def _below(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def load(folder: str | Path, config_dir: Path | None = None) -> Results:
    """Read all records below a results folder, once. A file that is no record is in `broken` and nowhere else.
    config_dir: where, besides our configs, exams may be declared that old records do not describe."""
    results = Results(Path(folder), Exams(config_dir))
    for sheet in store.sheets(results.folder, results.refuse):
        results.take(sheet)
    return results
