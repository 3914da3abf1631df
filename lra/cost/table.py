"""The cost curves of a sweep as a table in the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lra import console
from lra.cost.growth import TABLE_2, crossing, fits, relative
from lra.cost.points import GROUP, newest
from lra.marks.runs import REFERENCE, one_thread


def as_table(points: pd.DataFrame, phase: str = "train", shown: pd.DataFrame | None = None) -> str:
    """A table for each group: exponents of time and memory; the length from which on a step is faster
    than the reference's; speed and memory relative to the reference at 4,096 tokens; the longest
    sequence with a number, and its share of the GEMM ceiling; points on a disturbed machine. shown: those that have a
    line, of others the reference may be."""
    exponents, crossings, ratios = fits(points), crossing(points), relative(points, phase=phase)
    out = []
    for group, part in newest(points if shown is None else shown).groupby(GROUP, sort=True, dropna=False):
        task, budget, machine, dtype, threads, batch = group

        def here(table: pd.DataFrame, model: str, group: tuple = group, **values: Any) -> pd.DataFrame:
            wanted = dict(zip(GROUP, group, strict=True)) | {"model": model} | values
            return table[np.logical_and.reduce([table[k] == v for k, v in wanted.items()])]

        lines = []
        part = part[part.phase == phase]
        for model in sorted(part.model.unique(), key=lambda m: (m != REFERENCE, m)):
            mine = part[part.model == model].sort_values("length")
            growth = (here(exponents, model, phase=phase, quantity=q) for q in ("time", "memory"))
            at_4k = here(ratios, model, length=TABLE_2[-1])
            last = mine.iloc[-1]
            lines.append(
                [
                    model,
                    *map(grown, growth),
                    passed(here(crossings, model, phase=phase)),
                    ratio(at_4k.relative_speed),
                    ratio(at_4k.relative_memory),
                    f"{last.length:,}",
                    console.percent(last.gemm_share) if pd.notna(last.gemm_share) else "-",
                    f"{int(mine.disturbed.sum())}",
                ]
            )
        header = ["model", "time L^", "memory L^", "faster from", "speed", "memory", "longest", "of GEMM", "noisy"]
        out.append(f"{task}, budget {budget}, batch {batch}, {machine}, {dtype}{one_thread(threads)}: a {phase} step")
        out.append(console.table(lines, header) + "\n")
    return "\n".join(out)


def grown(row: pd.DataFrame) -> str:
    """An exponent as people read it."""
    if row.empty:
        return "-"
    exponent, high = row.exponent.iloc[0], row.high.iloc[0]
    return f"{exponent:.2f}" + (f" ± {high - exponent:.2f}" if pd.notna(high) else "")


def passed(row: pd.DataFrame) -> str:
    """A crossing as people read it."""
    if row.empty:
        return "-"
    one = row.iloc[0]
    if one.side == "above":
        return "never"
    if one.side == "below":
        return f"<{one.length:,.0f}"
    low, high = (f"{v:,.0f}" if pd.notna(v) else "" for v in (one.low, one.high))
    return f"{one.length:,.0f} [{low}-{high}]"


def ratio(values: pd.Series) -> str:
    return f"{values.iloc[0]:.2f}x" if len(values) and pd.notna(values.iloc[0]) else "-"
