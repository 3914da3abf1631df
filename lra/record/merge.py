"""Records of one results folder brought into another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lra.errors import UserError
from lra.record import sheet, store


@dataclass
class Merged:
    """How many came over and were there already; (file, why) of what did not come."""

    copied: int = 0
    there: int = 0
    refused: list[tuple[Path, str]] = field(default_factory=list)


def merge(into: Path, source: Path, dry: bool = False) -> Merged:
    """Copy every whole record of `source`, what lies beside it first, that `into` does not have. Nothing is ever
    replaced: a record of the same name with another content is a conflict, and stays where it is. dry: only count.

    Raises UserError if `source` holds no records or `into` cannot be written.
    """
    if not (source / "runs").is_dir():
        raise UserError(f"merge: {source} has no folder runs")
    out = Merged()
    for path in store.paths(source):
        try:
            opened = sheet.opened(path)
            _taken(into, opened, out, dry)
        except sheet.Damaged as error:
            out.refused.append((path, error.said))
        except OSError as error:
            raise UserError(f"merge: {into} cannot be written ({error.strerror or error}); {_said(out)}") from error
    return out


def _taken(into: Path, opened: sheet.Sheet, out: Merged, dry: bool) -> None:
    record, path = opened.record, opened.path
    target = store.folder(into, record.task, record.model) / f"{record.run_id}.json"
    content = path.read_bytes()
    if opened.edited:
        out.refused.append((path, "was edited after it was written"))
    elif target.exists():
        if target.read_bytes() == content:
            out.there += 1
        else:
            out.refused.append((path, f"is another record than {target}, which has its name"))
    else:
        answers = opened.predictions
        if answers is not None and not answers.is_file():
            out.refused.append((path, f"its predictions {answers.name} are not there"))
            return
        if not dry:
            # Who gives records away may keep the weights.
            for beside in (answers, opened.weights):
                if beside is not None and beside.is_file() and not (target.parent / beside.name).exists():
                    store.write_once(target.parent / beside.name, beside.read_bytes())
            store.write_once(target, content)
        out.copied += 1


def _said(out: Merged) -> str:
    return f"{out.copied} records are copied, typing it again goes on"
