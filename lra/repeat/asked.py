"""The record that is meant, the command that repeats it, and having it done."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lra.errors import INTERRUPTED, USAGE, UserError, nearest
from lra.record import store
from lra.record.record import Record
from lra.repeat.older import worked_out
from lra.runner.elsewhere import refused, spoken
from lra.settings.again import key_of
from lra.settings.identity import PLACES
from lra.settings.words import split

OWN = {"results_dir": "results", "out": "repeats"}
HERE = ("data_dir", *PLACES, "checkpoint")  # where things lie on this machine
FLAGS = ("--at-commit", "--dry-run")
SHORTEST = 8  # characters that an id is known by


@dataclass(frozen=True)
class Wanted:
    """command: that of the record; words: where things lie here."""

    path: Path
    record: Record
    command: str
    words: tuple[str, ...]
    out: Path
    at_commit: bool
    dry: bool


def of(arguments: Sequence[str]) -> Wanted:
    """What is asked for. Raises UserError for what there is not."""
    rest, folder = split(arguments)
    flags = {word for word in rest if word.startswith("--")}
    if wrong := sorted(flags - set(FLAGS)):
        raise UserError(f"{wrong[0]} is not one of {', '.join(FLAGS)}.{nearest(wrong[0], FLAGS)}")
    given = dict(OWN) | {"results_dir": os.environ.get("LRA_RESULTS", OWN["results_dir"])}
    names, places = [], [] if folder is None else [f"--config-dir={folder}"]
    for word in (word for word in rest if word not in flags):
        key, equals, value = word.partition("=")
        if not equals or Path(word).is_file():
            names.append(word)
        elif key in OWN:
            given[key] = value
        elif key in HERE:
            places.append(word)
        else:
            known = (*OWN, *HERE)
            raise UserError(f"{key}: would make another run of it; allowed {', '.join(known)}.{nearest(key, known)}")
    if len(names) != 1:
        raise UserError(f"{' '.join(names) or 'nothing'} is not one record; name its id or its file")
    results, out = (Path(os.path.expanduser(given[key])) for key in OWN)  # noqa: PTH111
    path = found(names[0], results)
    record = store.read(path)
    command = record.command or worked_out(record, folder)
    return Wanted(path, record, command, tuple(places), out / record.run_id, *(flag in flags for flag in FLAGS))


def found(name: str, results: Path) -> Path:
    """Where a record lies, by its file or by its id below a results folder."""
    if Path(name).is_file():
        return Path(name)
    there = store.paths(results)
    fits = [p for p in there if p.stem == name] or [
        p for p in there if p.stem.startswith(name) and len(name) >= SHORTEST
    ]
    if not fits:
        raise UserError(f"{name}: no record of that id among the {len(there)} of {results}, and no file")
    if len(fits) > 1:
        raise UserError(f"{name}: {len(fits)} records of {results} begin so: {', '.join(p.stem for p in fits[:3])}, …")
    return fits[0]


def typed(wanted: Wanted) -> list[str]:
    """The command as it is started: with this Python, into a folder of its own, with places as they are here."""
    program, *rest = shlex.split(wanted.command)
    given = {key_of(word) for word in wanted.words}
    rest = [word for word in rest if key_of(word) not in given]
    out = wanted.out.resolve()
    places = [f"results_dir={out}", f"output_dir={out / 'outputs'}", *wanted.words]
    start = [sys.executable] if program == "python" else [sys.executable, "-m", "torch.distributed.run"]
    if rest[:1] == ["-c"]:  # of a class that was handed to lra.run
        return [*start, "-c", rest[1].replace("lra.run(", f"lra.run({', '.join(map(repr, places))}, ", 1)]
    return [*start, *rest, *places]


def done(wanted: Wanted, environment: Mapping[str, str] | None) -> tuple[Path, Record] | None:
    """The record that the repetition leaves, and where; null of one that was interrupted.

    Raises UserError for what is refused, and where no record is left.
    """
    kept = wanted.record
    place = (wanted.out, kept.task, kept.model)
    before = set(store.paths(*place))
    code, heard = spoken(typed(wanted), dict(environment or os.environ))
    new = [(p, r) for p in store.paths(*place) if p not in before and (r := store.read(p)).kind == kept.kind]
    if new:
        return new[-1]
    if code == INTERRUPTED:
        return None
    raise refused(code, heard) or UserError(f"{kept.run_id}: repeating it left no record (exit code {USAGE and code})")
