"""What the derived records of a folder say, a row an option of a parent."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lra import console, results
from lra.console import line, say
from lra.errors import UserError
from lra.marks import derived
from lra.record.place import config_dir, results_dirs
from lra.record.record import Record

HEAD = [
    "option", "accuracy", "less parent's", "p", "flipped", "log-loss", "rate", "at batch 1", "peak", "at batch 1",
    "of bf16, compiled",
]  # fmt: skip
BENEATH = (
    "less parent's: points of accuracy on the same items, with a 95 % interval: as near as it is told to be equal;",
    "p: McNemar's, which proves no equality. rate, peak: of inference at the run's batch and at a batch of one, over",
    "the parent's, in turns; below 1.00 the option is slower. of bf16, compiled: its rate over the better one's.",
)


def main(words: list[str]) -> int:
    found = results.load(results_dirs(words), config_dir(words))
    table = found.derived
    if table.empty:
        raise UserError(f"results_dir: no derived record in {found.folder / 'runs'}; see python -m lra.treat --help")
    print("\n".join(rendered(table)))
    for remark in found.remarks():
        say(line(remark))
    return 0


def rendered(table: pd.DataFrame) -> list[str]:
    out = []
    for (row, model, budget, seed), part in table.groupby(["row", "model", "budget", "seed"], sort=False):
        parents = part.parent.map(dict(zip(part.run_id, part.chain, strict=True)))
        for parent, rows in part.groupby("parent", sort=False):
            own = parents[rows.index[0]]
            chain = f" > {own}" if isinstance(own, str) else ""
            above = rows.above.iloc[0]
            known = "" if pd.isna(above) else f", accuracy {console.percent(above)}"
            out += [f"{model}{chain} on {row}, budget {budget}, seed {seed} ({parent}){known}"]
            out += [console.table([cells(r) for r in rows.itertuples()], HEAD), ""]
    return [*out, *BENEATH]


def cells(r: Any) -> list[str]:
    """A row of `table`; of a failure its reason, and in the place of rates why there are none."""
    name = line(r.option) + " *" * bool(r.edited)
    if r.status != "ok":
        return [name, f"{r.status}: {line(r.reason or '')[:60]}", *["-"] * (len(HEAD) - 2)]
    rates = ["imitated", *["-"] * 4]
    if r.executed and not pd.isna(r.rate):
        rates = [
            ratio(r.rate, r.rate_low, r.rate_high),
            ratio(r.rate_one, r.rate_one_low, r.rate_one_high),
            short(r.peak),
            short(r.peak_one),
            ratio(r.over, r.over_low, r.over_high),
        ]
    loss = f"{r.loss:+z.4f} ({r.loss_low:+z.4f} to {r.loss_high:+z.4f})"
    return [name, console.percent(r.accuracy), points(r), f"{r.p:.2g}", f"{100 * r.flipped:.2f} %", loss, *rates]


def points(r: Any) -> str:
    """Its accuracy less its parent's."""
    return f"{100 * r.difference:+z.2f} ({100 * r.low:+z.2f} to {100 * r.high:+z.2f})"


def ratio(value: float | None, low: float | None, high: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.2f} ({low:.2f} to {high:.2f})"


def short(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.2f}"


def shown(found: Record) -> list[str]:
    """One record, as its command ends."""
    rows = [derived.row(found, False)]
    table = pd.DataFrame(rows, columns=derived.COLUMNS).assign(over=None, over_low=None, over_high=None)
    return [console.table([cells(next(table.itertuples()))], HEAD)]
