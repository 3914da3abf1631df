"""Exponents, crossings and ratios of cost curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from lra.cost.points import GROUP, newest
from lra.marks.runs import REFERENCE

TABLE_2 = (1024, 2048, 3072, 4096)  # the lengths of Tay et al. 2021, Table 2
FIT_FROM = 1024  # below, a step's time is mostly what does not grow with length
RESAMPLES = 2000


def fits(points: pd.DataFrame) -> pd.DataFrame:
    """Exponents: the slope of log cost on log length over the lengths from FIT_FROM on, at the fixed
    batch, with the 95 % interval of least squares (Student's t; null for two points). The interval
    says how far the curve is from a power law there, besides the noise.

    One row for each group, model, phase and quantity: "time" (median seconds of a step) and, of
    training, "memory" (step peak bytes).
    """
    rows = []
    for (*group, model, phase), part in newest(points).groupby([*GROUP, "model", "phase"], sort=True, dropna=False):
        part = part[part.length >= FIT_FROM].sort_values("length")
        for quantity, column in (("time", "seconds_median"), ("memory", "step_peak_bytes")):
            known = part[part[column].notna()]
            if len(known) >= 2:
                exponent, half = slope(known.length, known[column])
                span = int(known.length.min()), int(known.length.max()), len(known)
                rows.append([*group, model, phase, quantity, exponent, exponent - half, exponent + half, *span])
    columns = [*GROUP, "model", "phase", "quantity", "exponent", "low", "high", "from_length", "to_length", "points"]
    return pd.DataFrame(rows, columns=columns)


def slope(lengths: Any, costs: Any) -> tuple[float, float]:
    """(slope of log cost on log length, half of its 95 % interval)."""
    x, y = np.log(np.asarray(lengths, float)), np.log(np.asarray(costs, float))
    x = x - x.mean()
    b = float(x @ y / (x @ x))
    free = len(x) - 2
    if free < 1:
        return b, float("nan")
    rest = y - y.mean() - b * x
    return b, float(stdtrit(free, 0.975) * np.sqrt(rest @ rest / free / (x @ x)))


def crossing(points: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """From which length on is a step faster than the reference's, at the same batch?

    length: where log time ratio, interpolated linearly in log length between measured points,
    passes zero for the last time. low, high: 95 % of RESAMPLES bootstrap curves, which draw the
    timed steps of every point anew and add the scatter between repeats of a point where the records
    hold any (a single sweep knows only the scatter between steps of one process).
    side: "within" the measured lengths; "below": faster at every one, `length` is then the shortest
    and low null; "above": slower at the longest, length and high null.
    """
    rows = []
    for (*group, phase), part in newest(points).groupby([*GROUP, "phase"], sort=True, dropna=False):
        scatter = between_repeats(part)
        base = part[part.model == reference].set_index("length")
        for model, mine in part[part.model != reference].groupby("model", sort=True):
            mine = mine.set_index("length")
            lengths = sorted(set(mine.index) & set(base.index))
            if not lengths:
                continue
            draw = np.random.default_rng(0)
            ratio = np.log([mine.seconds_median[n] / base.seconds_median[n] for n in lengths])
            drawn = [resampled(mine.loc[n], scatter, draw) - resampled(base.loc[n], scatter, draw) for n in lengths]
            at = float(passes(lengths, ratio[None])[0])
            low, high = np.quantile(passes(lengths, np.stack(drawn, axis=1)), (0.025, 0.975), method="inverted_cdf")
            side = "above" if np.isinf(at) else "below" if at <= lengths[0] else "within"
            # What lies outside the measured lengths has no bound on that side.
            low = low if lengths[0] < low < np.inf else np.nan
            rows.append([*group, model, phase, *(np.nan if np.isinf(v) else v for v in (at, low, high)), side])
    return pd.DataFrame(rows, columns=[*GROUP, "model", "phase", "length", "low", "high", "side"])


def between_repeats(part: pd.DataFrame) -> float:
    """Pooled standard deviation of log median time between repeats of a point; 0 where there are none."""
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in part.log_medians)
    free = sum(len(logs) - 1 for logs in part.log_medians)
    return float(np.sqrt(squares / free)) if free else 0.0


def resampled(point: Any, scatter: float, draw: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) log medians of the point's n timed steps, drawn with replacement.

    The k-th of n draws is the step whose rank is n times the k-th of n uniform numbers, and those
    are ratios of sums of exponential ones (David and Nagaraja 2003, section 2.5): two or three
    numbers a resample in place of n, with the same distribution.
    """
    times = np.sort(np.asarray(point.seconds, float))
    n = len(times)
    low, high = (n + 1) // 2, n // 2 + 1  # equal for odd n
    first, middle, last = draw.gamma((low, max(high - low, 1), n + 1 - high), size=(RESAMPLES, 3)).T
    middle *= high > low
    ranks = n * np.stack((first, first + middle)) / (first + middle + last)
    medians = times[np.minimum(ranks.astype(int), n - 1)].mean(axis=0)
    return np.log(medians) + draw.normal(0.0, scatter / np.sqrt(point.repeats), RESAMPLES)


def passes(lengths: list[int], ratios: np.ndarray) -> np.ndarray:
    """(R, K) log ratios at K rising lengths -> (R,) where each passes from above zero to below for
    the last time; the first length if it is never above, infinity if it ends there."""
    x = np.log(lengths)
    slower = ratios >= 0
    last = slower.shape[1] - 1 - slower[:, ::-1].argmax(axis=1)
    out = np.full(len(ratios), float(lengths[0]))
    out[slower[:, -1]] = np.inf
    rows = np.flatnonzero(slower.any(axis=1) & ~slower[:, -1])
    j = last[rows]
    a, b = ratios[rows, j], ratios[rows, j + 1]
    out[rows] = np.exp(x[j] + (x[j + 1] - x[j]) * a / (a - b))
    return out


def relative(
    points: pd.DataFrame, lengths: tuple[int, ...] = TABLE_2, reference: str = REFERENCE, phase: str = "train"
) -> pd.DataFrame:
    """relative_speed (above 1: faster than the reference) and relative_memory (below 1: less) of a
    step at each length, at equal batch. One row for each group, model and length."""
    table = newest(points)
    table = table[(table.phase == phase) & table.length.isin(lengths)]
    base = table[table.model == reference].set_index([*GROUP, "length"])
    where = pd.MultiIndex.from_frame(table[[*GROUP, "length"]])
    out = table[[*GROUP, "model", "length", "disturbed"]].copy()
    out["relative_speed"] = base.seconds_median.reindex(where).to_numpy(float) / table.seconds_median.to_numpy(float)
    out["relative_memory"] = table.step_peak_bytes.to_numpy(float) / base.step_peak_bytes.reindex(where).to_numpy(float)
    return out.sort_values([*GROUP, "model", "length"]).reset_index(drop=True)


def repeats(points: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """How well sweeps agree: for each training point that several calls of the sweep measured beside
    the reference, at the commit that last measured it, the spread of the relative speed (largest
    over least, less 1) and of step peak bytes."""
    train = points[(points.status == "ok") & (points["mode"] == "fixed") & (points.phase == "train")]
    newest = train.sort_values("run_id").groupby([*GROUP, "length", "model"], dropna=False).commit.transform("last")
    train = train[train.commit.isna() | (train.commit == newest)]
    key = [*GROUP, "length", "sweep"]
    base = train[train.model == reference].drop_duplicates(key, keep="last").set_index(key).seconds_median
    train = train.assign(
        speed=base.reindex(pd.MultiIndex.from_frame(train[key])).to_numpy(float) / train.seconds_median
    )
    rows = []
    for (*group, length, model), part in train.dropna(subset="speed").groupby(
        [*GROUP, "length", "model"], dropna=False
    ):
        if part.sweep.nunique() > 1:
            peaks = part.step_peak_bytes
            spread = part.speed.max() / part.speed.min() - 1
            rows.append(
                [
                    *group,
                    length,
                    model,
                    part.sweep.nunique(),
                    spread,
                    int(peaks.max() - peaks.min()),
                    part.disturbed.any(),
                ]
            )
    return pd.DataFrame(rows, columns=[*GROUP, "length", "model", "sweeps", "speed_spread", "peak_spread", "disturbed"])
