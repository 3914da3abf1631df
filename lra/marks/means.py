"""Averages over exams, as the charts show them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lra.marks.exams import averaged_row
from lra.marks.runs import GROUP
from lra.marks.skill import CUT


def averages_of(cells: pd.DataFrame) -> pd.DataFrame:
    """What the bubble chart shows of cells: those of standard runs, `one_an_exam`, `averaged`."""
    return averaged(one_an_exam(standard(cells)))


def one_an_exam(shown: pd.DataFrame) -> pd.DataFrame:
    """Cells of one row for each exam, in each group the one that the leaderboard averages."""
    kept = []
    for _, part in shown.groupby(GROUP, sort=False):
        models = part.accuracy.notna().groupby(part["row"]).sum().to_dict()
        exams: dict[str, dict[str, int]] = {}
        for row, exam in dict(zip(part["row"], part.exam, strict=True)).items():
            exams.setdefault(exam.of, {})[row] = models[row]
        kept.append(part[part["row"].isin([averaged_row(exam, rows) for exam, rows in exams.items()])])
    return pd.concat(kept).sort_index() if kept else shown


def geometric(values: pd.Series) -> float:
    """Mean of what is known, 0 if any of it is; not a number if nothing is."""
    known = values.dropna().astype(float)
    if not len(known) or (known == 0).any():
        return 0.0 if len(known) else float("nan")
    return float(np.exp(np.log(known).mean()))


def averaged(shown: pd.DataFrame) -> pd.DataFrame:
    """Of cells, one row for each group and model: mean accuracy and how many tasks it is over,
    geometric means of speed relative to the Transformer's on the same tasks, of step peak bytes, of FLOPs, parameters
    and floats of state.

    skill: mean over the same tasks, in each cut at CUT; not a number where one has none. cut: is any?
    low, high: 95 % interval of the mean accuracy, the tasks' intervals taken as independent.
    of: how many tasks any model of the group has. uses_2d: does it know the rows and columns of images?
    """

    skills = shown.skill.astype(float)
    shown = shown.assign(
        variance=((shown.high - shown.low) / 2) ** 2, skill=skills.clip(lower=CUT), cut=skills < CUT, known=skills
    )
    out = shown.groupby([*GROUP, "model"], as_index=False).agg(
        accuracy=("accuracy", "mean"),
        tasks=("accuracy", "count"),
        relative_speed=("relative_speed", geometric),
        step_peak_bytes=("step_peak_bytes", geometric),
        train_flops=("train_flops", geometric),
        parameters=("parameters", geometric),
        state_floats=("state_floats", geometric),
        skill=("skill", "mean"),
        skills=("known", "count"),
        cut=("cut", "any"),
        uses_2d=("uses_2d", "any"),
        half=("variance", lambda v: float(np.sqrt(v.sum(min_count=1)))),
    )
    out["half"] /= out.tasks.where(out.tasks > 0)
    out["low"], out["high"] = out.accuracy - out.half, out.accuracy + out.half
    out["of"] = out.groupby(GROUP).tasks.transform("max")
    out["skill"] = out.skill.where(out.skills == out.tasks)
    return out.drop(columns=["half", "skills"])


def of_sequences(shown: pd.DataFrame) -> pd.DataFrame:
    """Those of models that take an image for a sequence: of others nothing is ranked, averaged or beaten."""
    return shown[~shown.uses_2d.astype(bool)]


def compared(shown: pd.DataFrame, varied: bool = False) -> pd.DataFrame:
    """What is ranked: as `of_sequences`, from scratch, and of runs with overrides none but for `varied`."""
    own = of_sequences(shown if varied else standard(shown))
    return own[own.pretraining.isna()]


def scratch(name: str) -> tuple[str, str]:
    """What a pretrained model may be called from scratch: with its other overrides, else as the budget has it."""
    words = name.split(" ")
    return " ".join(word for word in words if not word.startswith("treatment")), words[0]


def pretrained(points: pd.DataFrame, shown: pd.DataFrame, called: Mapping[str, str]) -> pd.DataFrame:
    """Points of one group, as `averaged` gives them, and those of its pretrained cells over the same rows of records,
    each where the same model from scratch is (`scratch`), whose step is its own, but for what it scores. called: what
    the points call models."""
    at, out = points.set_index("model"), []
    for name, own in shown[shown.accuracy.notna()].groupby("model", sort=True):
        bases = (called.get(base, base) for base in scratch(name))
        base = next((b for b in bases if b in at.index and pd.notna(at.accuracy[b])), None)
        if base is None:
            continue
        halves = ((own.high - own.low) / 2).astype(float)
        mean, half = float(own.accuracy.mean()), float(np.sqrt((halves**2).sum()) / len(own))
        more = {"accuracy": mean, "low": mean - half, "high": mean + half, "tasks": len(own), "scratch": base}
        out.append({**at.loc[base].to_dict(), "model": name, **more})
    return pd.concat([points, pd.DataFrame(out)], ignore_index=True) if out else points


def standard(shown: pd.DataFrame) -> pd.DataFrame:
    """Cells of runs as the budget has them: an override is another exam and has no place in a chart."""
    return shown[~shown.variant.astype(bool)]
