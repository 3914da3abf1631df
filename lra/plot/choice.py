"""What may stand on the axes of the bubble chart, and where each number comes from.

    python -m lra.plot x=core_seconds y=skill area=parameters [to=0.4]

x      speed (relative to the Transformer's) | core_seconds (until an exam's best local floor, or `to`, is reached on
       valid; geometric mean over exams) | flops (of a training step, an example)
y      accuracy | skill (cut at -1, an exam at a time) | reach (on `needle`: tokens up to which s is .9) | learnt (exams
       of abilities that every seed has learnt)
area   memory (peak of a step) | parameters | state (floats that the mixers keep of the tokens)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra.errors import UserError, nearest
from lra.marks import abilities
from lra.marks.predict import ABLE
from lra.marks.runs import REFERENCE, local_floors
from lra.results import Results
from lra.settings.words import taken

NEEDLE = "needle"
AXES = ("x", "y", "area", "to")


@dataclass(frozen=True)
class Axis:
    """column: of the points. better: 1 where more is, -1 where less is. scale: from the column to what is shown.
    least: the smallest span that an axis has, of a log one in powers of ten."""

    column: str
    words: str
    better: int = 1
    log: bool = False
    scale: float = 1.0
    tick: str = "{:g}"
    least: float = 0.5


X = {
    "speed": Axis("relative_speed", f"training speed relative to the {REFERENCE.capitalize()}", log=True, tick="{:g}x"),
    "core_seconds": Axis("core_seconds", "{of}-seconds of training to {to}", -1, log=True),
    "flops": Axis("train_flops", "FLOPs of a training step, an example", -1, log=True),
}
Y = {
    "accuracy": Axis("accuracy", "test accuracy", scale=100.0, least=2.0),
    "skill": Axis("skill", "skill", least=0.05),
    "reach": Axis("reach", "reach on needle, tokens", log=True),
    "learnt": Axis("learnt", "exams of abilities that every seed has learnt", least=4.0),
}
AREA = {
    "memory": Axis("step_peak_bytes", "step peak memory"),
    "parameters": Axis("parameters", "parameters"),
    "state": Axis("state_floats", "state in floats"),
}


@dataclass(frozen=True)
class Choice:
    """to: the accuracy that core-seconds are taken to; null: each exam's best local floor."""

    x: str = "speed"
    y: str = "accuracy"
    area: str = "memory"
    to: float | None = None

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        return X[self.x], Y[self.y], AREA[self.area]

    @property
    def title(self) -> str:
        words = {"core_seconds": "core-seconds", "flops": "FLOPs", "learnt": "abilities learnt"}
        x, y = words.get(self.x, self.x), words.get(self.y, self.y)
        return f"{y[0].upper()}{y[1:]} over {x}, area for {self.area}"

    @property
    def words(self) -> list[str]:
        """As they are typed."""
        return [f"x={self.x}", f"y={self.y}", f"area={self.area}", *([] if self.to is None else [f"to={self.to:g}"])]

    @property
    def name(self) -> str:
        return "-".join([self.x, self.y, self.area, *([] if self.to is None else [f"to {self.to:g}"])])


DEFAULT = Choice()


def asked(words: Sequence[str]) -> tuple[Choice | None, list[str]]:
    """The choice that words make, null where there is none, and the other words. UserError for what there is not."""
    given, rest = taken(words, AXES)
    for key, known in (("x", X), ("y", Y), ("area", AREA)):
        if (value := given.get(key)) is not None and value not in known:
            raise UserError(f"{key}: {value!r} is not one of {', '.join(known)}.{nearest(value, list(known))}")
    if (to := given.pop("to", None)) is not None:
        given["to"] = _fraction(to)
        if given.get("x") != "core_seconds":
            raise UserError(f"to: {to} is the accuracy of x=core_seconds, and does nothing without")
    return (Choice(**given) if given else None), rest


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value <= 1:
        raise UserError(f"to: {text!r} is not an accuracy, a number in (0, 1]")
    return value


def floors_of(cells: pd.DataFrame, results: Results) -> dict[str, float]:
    """Row -> accuracy of the best rule that is blind to long range, on the data of these cells."""
    known, data = local_floors(results.runs), dict(zip(cells["row"], cells.fingerprint, strict=True))
    return {row: known[row, data[row]][1] for row in data if (row, data[row]) in known}


def seconds_to(cells: pd.DataFrame, results: Results, to: float | None) -> pd.Series:
    """Model -> core-seconds until valid was at the best local floor of an exam, or at `to`: the median over seeds, and
    of these the geometric mean over exams; not a number where half of the seeds were not, on any exam. Of a race they
    are those of all learning rates, on a GPU its own seconds."""
    racing = results.racing.rename(columns={"accuracy": "valid_accuracy"})
    timed = racing.assign(core_seconds=60 * racing.minutes)[["run_id", "valid_accuracy", "core_seconds"]]
    steps = results.learning[~results.learning.run_id.isin(timed.run_id)][timed.columns]
    targets = floors_of(cells, results) if to is None else dict.fromkeys(cells["row"], to)
    wanted = {run: targets.get(cell.row, np.inf) for cell in cells.itertuples() for run in cell.timed_ids}
    points = pd.concat([part for part in (timed, steps) if len(part)] or [timed])
    there = points[points.valid_accuracy >= points.run_id.map(wanted)]
    first = there.groupby("run_id").core_seconds.min().to_dict()
    found: dict[str, list[float]] = {}
    for cell in cells.itertuples():
        found.setdefault(cell.model, []).append(abilities.half([first.get(run, np.inf) for run in cell.timed_ids]))
    whole = {m: np.exp(np.mean(np.log(s))) for m, s in found.items() if all(s) and np.isfinite(s).all()}
    return pd.Series(whole, dtype=float)


def able(cells: pd.DataFrame) -> pd.DataFrame:
    """By model, of cells of abilities of one precision: `learnt`, `exams` (how many it sat), `reach`."""
    rows = []
    for model, own in cells[(cells.budget == ABLE) & ~cells.variant.astype(bool)].groupby("model"):
        sat = own[own.seeds > 0]
        reaches = [c.capacity.at for c in abilities.each(sat) if c.task.startswith(NEEDLE) and c.capacity is not None]
        rows.append((model, int(abilities.whole(sat).sum()), len(sat), max(reaches, default=np.nan)))
    return pd.DataFrame(rows, columns=["model", "learnt", "exams", "reach"]).set_index("model")


def with_choice(
    points: pd.DataFrame, cells: pd.DataFrame, results: Results, choice: Choice, dtype: str
) -> pd.DataFrame:
    """Points of one group, as `lra.marks.means.averaged` gives them, with what the choice needs besides."""
    out = points.reset_index(drop=True)
    if choice.x == "core_seconds":
        out["core_seconds"] = out.model.map(seconds_to(cells, results, choice.to)).astype(float)
    if choice.y in ("reach", "learnt"):
        known = results.abilities
        found = able(known[known.dtype == dtype]).reindex(out.model)
        out[choice.y] = found[choice.y].to_numpy(float)
        most = found.exams.max()
        out["tasks"], out["of"] = found.exams.fillna(0).to_numpy(int), int(0 if pd.isna(most) else most)
        out = out.drop(columns=["low", "high"], errors="ignore")
    if choice.y == "skill":
        out = out.drop(columns=["low", "high"], errors="ignore")
    return out
