"""The ledger of published numbers: what papers and their repositories print, a cell a row.

    python -m lra.ledger [results_dir=results]      averages that do not follow from their own cells

A published number is shown beside ours for context and never ranked with them: its own panel, grey.
`results/published/README.md` explains the columns.
"""

from __future__ import annotations

import os
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pandas as pd

from lra import console
from lra.errors import UserError
from lra.root import ROOT


def comparison(ours: pd.DataFrame, published: pd.DataFrame) -> str:
    """A line for each of our cells of the unchanged exams: ours, that of the first table, the others' range.

    The published ones differ in sizes, data, seeds and what they select on: the ledger says how.
    """
    mine = ours[ours.budget.isin(BUDGETS) & (ours.row == ours.task) & ours.accuracy.notna()]
    if mine.empty:
        return f"no run of budget={' or '.join(BUDGETS)} on a whole exam has ended yet: nothing to compare"
    lines = []
    for cell in mine.sort_values(["budget", "task", "model", "machine"]).itertuples():
        here = published[(published.kind == "accuracy") & (published.task == cell.task) & published.value.notna()]
        here = here[here.ours == cell.model]
        first = here[here.table.str.startswith(FIRST_TABLE)].value
        later = here[~here.table.str.startswith(FIRST_TABLE)].value
        others = f"{later.min():.2f}" + (f" to {later.max():.2f}" if len(later) > 1 else "") if len(later) else "-"
        lines.append(
            [
                cell.budget,
                f"{cell.task} {cell.model}",
                console.percent(cell.accuracy),
                f"{100 * cell.low:.1f} to {100 * cell.high:.1f}",
                str(cell.seeds),
                f"{first.iloc[0]:.2f}" if len(first) else "-",
                f"{100 * cell.accuracy - first.iloc[0]:+z.2f}" if len(first) else "-",
                others,
            ]
        )
    header = ["budget", "exam and model", "ours", "95 %", "seeds", "2020", "less that", "later tables"]
    return "\n" + console.table(lines, header)


COLUMNS = (
    "model", "ours", "task", "kind", "printed", "unit", "length", "batch_size", "val_is_test", "colour", "pixels",
    "seeds", "tasks_in_average", "hardware", "source", "origin", "second_hand", "note",
)  # fmt: skip
ALLOWED = {
    "kind": ("accuracy", "speed", "memory"),
    "unit": ("%", "steps/s", "GB"),
    "val_is_test": ("yes", "no", ""),
    "second_hand": ("yes", "no"),
    "colour": ("grey", "rgb", ""),
    "pixels": ("tokens", "linear", ""),
}
REQUIRED = ("model", "task", "printed", "source")
WHOLE = ("batch_size", "seeds", "tasks_in_average")
FIVE = ("listops", "text", "retrieval", "image", "pathfinder")
SIX = (*FIVE, "pathx")
AVERAGE = "average"
FAIL = "FAIL"  # as tables print a model that stays at chance; it has no value
BUDGETS = ("paper", "published")  # whose cells have something to be set beside
FIRST_TABLE = "lra-2020"  # the accuracies and costs of Tay et al. 2021


def place(results: str | Path) -> Path:
    """The folder of the ledger: `published` in the results folder, else in this checkout's."""
    own = Path(results) / "published"
    return own if own.is_dir() else ROOT / "results" / "published"


def load(folder: str | Path) -> pd.DataFrame:
    """Every published cell below `folder`, in the order of the files: COLUMNS as text, and

    table  str             the file's name: cells of one table may be averaged
    value  float           `printed` as a number in `unit`; missing for FAIL
    batch_size, seeds, tasks_in_average  Int64, missing where the source does not say

    Unknown is a missing value everywhere. Raises UserError naming file, line, column, value.
    """
    parts = [_read(path) for path in sorted(Path(folder).glob("*.csv"))]
    cells = (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["table", *COLUMNS, "line"], dtype=str)
    )
    key = ["table", "model", "task", "kind", "length", "source"]
    twice = cells[cells.duplicated(key)]
    if not twice.empty:
        row = twice.iloc[0]
        raise UserError(f"{row.table}.csv, line {row.line}: {row.model}, {row.task}, {row.kind} is there twice")
    cells["value"] = pd.to_numeric(cells.printed.where(cells.printed != FAIL)).astype(float)
    for column in WHOLE:
        cells[column] = pd.to_numeric(cells[column].replace("", pd.NA)).astype("Int64")
    return cells.drop(columns="line").replace({column: {"": pd.NA} for column in COLUMNS if column not in WHOLE})


def _read(path: Path) -> pd.DataFrame:
    try:
        part = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a table of published cells ({error})") from error
    if tuple(part.columns) != COLUMNS:
        raise UserError(f"{path}: columns {','.join(part.columns)}; allowed {','.join(COLUMNS)}")
    part.insert(0, "table", path.stem)
    part["line"] = range(2, len(part) + 2)
    for row in part.itertuples():
        where = f"{path}, line {row.line}: "
        for column in REQUIRED:
            if not getattr(row, column):
                raise UserError(f"{where}{column} is empty")
        for column, values in ALLOWED.items():
            if getattr(row, column) not in values:
                shown = ", ".join(v or "(empty)" for v in values)
                raise UserError(f"{where}{column} {getattr(row, column)!r}; allowed {shown}")
        for column in WHOLE:
            if getattr(row, column) and not getattr(row, column).isdecimal():
                raise UserError(f"{where}{column} {getattr(row, column)!r}; allowed a whole number or nothing")
        if row.printed != FAIL:
            _decimal(row.printed, where)
    return part


def _decimal(printed: str, where: str = "") -> Decimal:
    try:
        number = Decimal(printed)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise UserError(f"{where}printed {printed!r}; allowed a number or {FAIL}")
    return number


def averages(cells: pd.DataFrame) -> pd.DataFrame:
    """One row for each table and model with accuracies: the averages its own cells give.

    avg5, avg6  float, %; over FIVE and SIX tasks, missing unless every one of them is printed
    printed     str; the average the source prints, tasks_in_average over how many tasks
    recomputed  float; the one of avg5, avg6 that `printed` is to be compared with
    agrees      True if `printed` is `recomputed` rounded (half either way), False if not, missing if
                there is nothing to compare. Compared in decimals, as printed.
    """
    rows = []
    accuracy = cells[cells.kind == "accuracy"]
    for (table, source, model), part in accuracy.groupby(["table", "source", "model"], sort=False):
        printed = dict(zip(part.task, part.printed, strict=True))
        means = {len(tasks): _mean([printed.get(task) for task in tasks]) for tasks in (FIVE, SIX)}
        average = part[part.task == AVERAGE]
        row = {
            "table": table,
            "source": source,
            "model": model,
            "ours": part.ours.iloc[0],
            "avg5": _float(means[5]),
            "avg6": _float(means[6]),
            "printed": None,
            "tasks_in_average": pd.NA,
            "recomputed": float("nan"),
            "agrees": None,
            "note": pd.NA,
        }
        if len(average):
            shown, over = _decimal(average.printed.iloc[0]), average.tasks_in_average.iloc[0]
            mean = None if pd.isna(over) else means.get(int(over))
            row |= {"printed": str(shown), "tasks_in_average": over, "note": average.note.iloc[0]}
            if mean is not None:
                half = Decimal(5).scaleb(shown.as_tuple().exponent - 1)
                row |= {"recomputed": float(mean), "agrees": abs(shown - mean) <= half}
        rows.append(row)
    out = pd.DataFrame(rows)
    return out.astype({"tasks_in_average": "Int64", "agrees": "boolean"}) if rows else out


def _mean(printed: list[str | None]) -> Decimal | None:
    if any(p is None or p == FAIL for p in printed):
        return None
    return sum(map(Decimal, printed), Decimal(0)) / len(printed)


def _float(value: Decimal | None) -> float:
    return float("nan") if value is None else float(value)


def deviations(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of `averages` whose printed average differs from its cells, or cannot be had from them."""
    table = averages(cells)
    if table.empty:
        return table
    return table[table.printed.notna() & ~table.agrees.fillna(False)]


def costs(cells: pd.DataFrame, reference: str = "Transformer") -> pd.DataFrame:
    """One row for each table, model and length with a printed speed or memory.

    steps_per_second, memory_gb as printed; relative_speed, relative_memory to the `reference` row of
    the same table and length (missing without it).
    """
    part = cells[cells.kind.isin(["speed", "memory"])]
    out = part.pivot_table(index=["table", "model", "length"], columns="kind", values="value", sort=False).reset_index()
    out = out.reindex(columns=["table", "model", "length", "speed", "memory"]).rename_axis(columns=None)
    out["length"] = out.length.astype(int)
    base = out[out.model == reference].set_index(["table", "length"])
    where = pd.MultiIndex.from_frame(out[["table", "length"]])
    for kind in ("speed", "memory"):
        out[f"relative_{kind}"] = out[kind].to_numpy(float) / base[kind].reindex(where).to_numpy(float)
    return out.rename(columns={"speed": "steps_per_second", "memory": "memory_gb"})


def figure_3(cells: pd.DataFrame, length: int = 4000) -> pd.DataFrame:
    """What figure 3 of Tay et al. 2021 shows, recomputed from the cells of its tables.

    One row a model: model, accuracy (fraction, over FIVE), relative_speed and step_peak_bytes
    (device memory, GB = 10^9 bytes) at `length`; missing where the paper prints none.
    """
    accuracy = averages(cells)
    accuracy = accuracy[accuracy.table.str.startswith(FIRST_TABLE)] if len(accuracy) else accuracy
    if accuracy.empty:
        return pd.DataFrame(columns=["model", "accuracy", "relative_speed", "step_peak_bytes"])
    cost = costs(cells)
    cost = cost[cost.table.str.startswith(FIRST_TABLE) & (cost.length == length)].set_index("model")
    cost = cost.reindex(accuracy.model)
    return pd.DataFrame(
        {
            "model": accuracy.model.to_numpy(),
            "accuracy": accuracy.avg5.to_numpy() / 100,
            "relative_speed": cost.relative_speed.to_numpy(),
            "step_peak_bytes": cost.memory_gb.to_numpy() * 1e9,
        }
    )


def main() -> int:
    from lra.console import table
    from lra.record.place import options

    results = Path(os.path.expanduser(options(sys.argv[1:])["results_dir"]))  # noqa: PTH111
    if not results.is_dir():
        raise UserError(f"results_dir: {results} is not a folder")
    folder = place(results)
    cells = load(folder)
    if cells.empty:
        raise UserError(f"results_dir: no published cell in {folder}")
    known, wrong = averages(cells), deviations(cells)
    print(f"{len(cells)} cells, {known.printed.notna().sum()} printed averages, {int(known.agrees.sum())} follow from")
    print("the cells beside them; the others:\n")
    lines = [
        [
            r.model,
            f"{r.printed}",
            "-" if pd.isna(r.recomputed) else f"{r.recomputed:.3f}",
            f"{r.tasks_in_average}",
            r.table,
            "" if pd.isna(r.note) else r.note,
        ]
        for r in wrong.itertuples()
    ]
    print(table(lines, ["model", "printed", "recomputed", "tasks", "table", "note"]))
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
