"""What a paper's text must say of a table, from the records: hyperparameters, and a paragraph of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lra.leaderboard.board import Board, Column
from lra.leaderboard.latex import escaped, heading
from lra.record.record import Record

ROWS: Mapping[str, str] = {
    "layers": "size.depth", "width": "size.dim", "heads": "size.heads", "feed-forward width": "size.mlp_dim",
    "dropout": "size.dropout", "pooling": "size.pooling", "positions": "size.position", "longest input": "length",
    "batch": "batch_size", "steps": "steps_budget", "learning rate": "train.learning_rate",
    "rates tried": "train.rates", "schedule": "train.schedule", "warm-up steps": "train.warmup_steps",
    "weight decay": "train.weight_decay", "gradient clip": "train.grad_clip",
}  # fmt: skip

# A table that is wider than its place is made as wide, and a narrower one is left.
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


@dataclass(frozen=True)
class Told:
    """names: of the board's lines as the table has them. records: by file."""

    board: Board
    records: Mapping[str, Record]
    names: Mapping[str, str]
    label: str
    environment: str

    @property
    def narrow(self) -> bool:
        return self.environment == "table"

    def columns(self) -> list[Column]:
        return [c for c in self.board.columns if not c.over and not self.board.empty(c)]

    def of(self, column: Column | None = None) -> list[Record]:
        """The runs of models, of one column or of all."""
        keys = [c.key for c in self.columns()] if column is None else [column.key]
        lines = [line for line in self.board.lines if line.kind != "floor"]
        files = [file for line in lines for key in keys for file in line.mark(key).files]
        return [self.records[file] for file in files if file in self.records]


def value(record: Record, name: str) -> Any:
    """Of a field of the record, or of its configuration."""
    if "." not in name:
        return getattr(record, name)
    part, _, key = name.partition(".")
    node = record.config.get(part)
    return node.get(key) if isinstance(node, Mapping) else None


def said(values: Iterable[Any]) -> str:
    """One value, or from the least to the most of numbers, or each."""
    known = []
    for each in values:
        each = tuple(each) if isinstance(each, list) else each
        if each not in known and each not in (None, ()):
            known.append(each)
    if not known:
        return "--"
    if len(known) > 1 and all(isinstance(v, (int, float)) for v in known):
        return f"{number(min(known))}--{number(max(known))}"
    return escaped(" / ".join(", ".join(map(number, v)) if isinstance(v, tuple) else number(v) for v in known))


def number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(told: Told) -> list[str]:
    """A column an exam; a range where models differ."""
    columns = told.columns()
    rows = []
    for title, name in ROWS.items():
        cells = [said(value(r, name) for r in told.of(c)) for c in columns]
        if any(cell != "--" for cell in cells):
            rows.append(" & ".join([title, *cells]) + r" \\")
    rows += [
        r"\midrule",
        " & ".join(["parameters, thousands", *(said(_thousands(r) for r in told.of(c)) for c in columns)]) + r" \\",
    ]
    return [
        rf"\begin{{{told.environment}}}[t]", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{2.5pt}",
        FITTED, rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}", r"\toprule",
        " & ".join(["", *(heading(c, told.narrow) for c in columns)]) + r" \\", r"\midrule", *rows,
        r"\bottomrule", r"\end{tabular}}",
        rf"\caption{{Settings of the runs of table~\ref{{{told.label}}}, as recorded; a range where models differ.}}",
        rf"\label{{{told.label}-settings}}", rf"\end{{{told.environment}}}",
    ]  # fmt: skip


def paragraph(told: Told) -> list[str]:
    """Sentences of what was done, each of what records say; none of what they do not."""
    runs, board = told.of(), told.board
    lines = [line for line in board.lines if line.kind != "floor"]
    if not runs:
        return []
    seeds = sorted({mark.seeds for line in lines for mark in line.marks.values() if mark.seeds})
    exams = ", ".join(escaped(c.title) for c in told.columns())
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else "no"
    out = [
        rf"\paragraph{{Methods.}} {len(lines)} models ({', '.join(told.names[line.name] for line in lines)}) were"
        rf" trained and tested on {exams} with {count} seed{'s' * (count != '1')} each, budget {escaped(board.budget)},"
        rf" in {escaped(board.dtype)}; table~\ref{{{told.label}-settings}} has the settings.",
        "All were trained with AdamW; the checkpoint was chosen on the validation split, and the test split was looked"
        " at once, with it.",
        "Accuracies are means over seeds; intervals hold 95\\,\\% and, where there are several seeds, the luck of"
        " training and of the test items. Models are compared by paired tests on the same test items, with Holm's"
        f" correction over all pairs of the {board.compared} models on record, whether shown here or not.",
    ]
    out += _told("Runs were made on {}.", sorted({r.machine.get("name") for r in runs if r.machine.get("name")}))
    out += _told("Versions: {}.", _versions(runs))
    out += _told("The code was at commit {}.", sorted({r.commit[:8] for r in runs if r.commit}), most=4)
    failed = sum(mark.failed for line in lines for mark in line.marks.values())
    out += [f"{failed} run{'s' * (failed != 1)} ended without a result, and are shown as such."] if failed else []
    return out


def _versions(runs: list[Record]) -> list[str]:
    names: Callable[[str], list[str]] = lambda name: sorted({r.versions[name] for r in runs if name in r.versions})  # noqa: E731
    return [f"{name} {' and '.join(names(name))}" for name in ("python", "torch", "lra") if names(name)]


def _told(sentence: str, values: list[str], most: int = 6) -> list[str]:
    if not values:
        return []
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return [sentence.format(escaped(", ".join(values[:most])) + more)]


def _thousands(r: Record) -> int | None:
    return None if r.parameters is None else round(r.parameters / 1000)
