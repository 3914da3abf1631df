"""Is what is published in a results folder what its records give, and are the records whole?

    python -m lra.leaderboard [results_dir=results] --check

One line for each thing that is wrong, and exit code 1; nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lra.errors import UserError
from lra.leaderboard import files
from lra.marks import runs
from lra.record import record, sheet, store
from lra.record.answers import read

KINDS = ("model", "floor", "cost")
FRACTIONS = ("accuracy_test", "accuracy_valid")
REBUILD = {"leaderboard": "python -m lra.leaderboard", "figures": "python -m lra.plot"}


def check(results: Path) -> int:
    """Print what is wrong; 0 if nothing is, else 1."""
    paths = sorted(p for p in (results / "runs").rglob("*.json") if not p.name.startswith("."))
    wrong = [line for path in paths for line in of_record(path, results)]
    published = 0
    try:
        wrong += of_groups(runs.load(results))
        given = expected(results)
        published = len(given)
        wrong += of_published(results, given)
    except UserError as error:
        if not wrong:
            wrong.append(str(error))
        wrong.append(f"{results}: tables and figures were not compared, because the records cannot all be read")
    for line in wrong:
        print(" ".join(line.split()))
    if wrong:
        print(f"{len(wrong)} wrong, of {len(paths)} records and {published} published files")
        return 1
    print(f"{len(paths)} records are whole; {published} published files are what they give")
    return 0


def of_record(path: Path, results: Path) -> Iterator[str]:
    """What is wrong with one record: its schema, its digest, its place, its predictions."""
    where = path.relative_to(results).as_posix()
    try:
        raw = json.loads(path.read_text())
        entry = sheet.read(path)
    except json.JSONDecodeError as error:
        yield f"{where}: not a record ({error})"
        return
    except (OSError, ValueError) as error:
        yield f"{where}: {str(error).removeprefix(f'{path}: ')}"
        return
    yield from (f"{where}: {line}" for line in of_schema(raw))
    if entry.schema >= 2 and entry.digest != record.digest_of(raw):
        yield f"{where}: its digest does not match its content, which was edited after it was written"
    place = store.folder(Path(), entry.task, entry.model) / f"{entry.run_id}.json"
    if where != place.as_posix():
        yield f"{where}: says it is {place.as_posix()}"
    yield from (f"{where}: {line}" for line in of_predictions(path, entry))


def of_schema(raw: Mapping[str, Any]) -> Iterator[str]:
    """What in a record as read is not of the type its schema says, or out of range."""
    if raw["schema"] not in range(1, record.SCHEMA + 1):
        yield f"schema {raw['schema']!r}; allowed 1 to {record.SCHEMA}"
        return
    kinds = typing.get_type_hints(record.Record)
    for f in fields(record.Record):
        if f.name not in raw:
            if raw["schema"] == record.SCHEMA:
                yield f"{f.name} is missing"
        elif not _is(raw[f.name], kinds[f.name]):
            yield f"{f.name} {json.dumps(raw[f.name])[:60]}; allowed {_words(kinds[f.name])}"
    if raw.get("kind") not in KINDS:
        yield f"kind {raw.get('kind')!r}; allowed {', '.join(KINDS)}"
    for name in FRACTIONS:
        value = raw.get(name)
        if isinstance(value, (int, float)) and not 0 <= value <= 1:
            yield f"{name} {value}; allowed a fraction from 0 to 1"
    if raw["status"] != "ok" and raw.get("reason") is None:
        yield f"reason is null; allowed one line that says why the status is {raw['status']}"


def _is(value: Any, kind: Any) -> bool:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, k) for k in inside)
    if kind is Any:
        return True
    if kind in (None, type(None)):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is list:
        return isinstance(value, list) and all(_is(v, inside[0]) for v in value)
    if origin is not None:  # a mapping
        return isinstance(value, dict) and all(_is(v, inside[1]) for v in value.values())
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    name = str(kind) if typing.get_args(kind) else kind.__name__
    return name.replace("collections.abc.", "").replace("typing.", "")


def of_predictions(path: Path, entry: record.Record) -> Iterator[str]:
    """What is wrong with the stored answers of a record."""
    if not entry.predictions:
        return
    stored = path.parent / str(entry.predictions.get("file"))
    if not stored.exists():
        yield f"its predictions {stored.name} are not there"
        return
    if hashlib.sha256(stored.read_bytes()).hexdigest() != entry.predictions.get("sha256"):
        yield f"its predictions {stored.name} do not have the SHA-256 it names"
        return
    try:
        predictions, labels = read(stored)
    except UserError as error:
        yield str(error)
        return
    if len(predictions) != entry.items_test:
        yield f"{len(predictions)} predictions for items_test {entry.items_test}"
    elif labels is not None and abs((predictions == labels).mean() - (entry.accuracy_test or 0)) > 1e-6:
        yield f"accuracy_test {entry.accuracy_test}, but its predictions give {(predictions == labels).mean():.6f}"


def of_groups(table: pd.DataFrame) -> Iterator[str]:
    """Records that a table or an axis would compare although their conditions differ."""
    shown = table[table.kind.isin(["model", "cost"])]
    for r in shown[shown.status.isin(record.FINAL)].itertuples():
        for name in runs.GROUP:
            if not isinstance(getattr(r, name), str):
                yield f"{r.file}: {name} is null, so it would share an axis with any other"
    for (machine, dtype), part in shown.groupby(["machine", "dtype"]):
        devices = sorted(part.device.dropna().unique())
        if len(devices) > 1:
            yield f"{machine}, {dtype}: devices {' and '.join(devices)} would share an axis"
    ended = runs.latest(table)
    ended = ended[(ended.status == "ok") & ~ended.variant.astype(bool)] if len(ended) else ended
    for (*group, row), part in ended.groupby([*runs.GROUP, "row"]) if len(ended) else ():
        timed = part[part.train_examples_per_second.notna()]
        threads = sorted(int(n) for n in timed.threads.dropna().unique())
        if len(threads) > 1:
            counts = " and ".join(map(str, threads))
            yield f"{', '.join(group)}, {row}: speeds with {counts} threads would share an axis"
        newest = part.drop_duplicates("model", keep="last").fingerprint.dropna().unique()
        if len(newest) > 1:
            data = ", ".join(sorted(newest))
            yield f"{', '.join(group)}, {row}: results on different data ({data}) would share a column"


def expected(results: Path) -> dict[str, bytes]:
    """Name below the results folder -> content, of all that the records give."""
    from lra.plot import render

    shown, figures = files.boards(results), render.render(results)
    return (files.files(shown, figures) if shown else {}) | figures


def of_published(results: Path, given: Mapping[str, bytes]) -> Iterator[str]:
    """Published files that are missing, stale or of no record."""
    from lra.plot import render

    for name, content in given.items():
        path = results / name
        command = REBUILD["figures" if "/" in name else "leaderboard"]
        if not path.exists():
            yield f"{name}: missing; rebuild it: {command}"
        elif (there := path.read_bytes()) != content:
            yield f"{name}: differs from what the records give{_first(there, content)}; rebuild it: {command}"
    figures = {name: content for name, content in given.items() if "/" in name}
    extra = [path.relative_to(results).as_posix() for path in render.stale(results, figures)]
    extra += [name for name in files.NAMES if name not in given and (results / name).exists()]
    yield from (f"{name}: no record gives it any more; delete it" for name in sorted(extra))


def _first(there: bytes, content: bytes) -> str:
    """Where two texts first differ; nothing for pictures."""
    try:
        ours, theirs = content.decode().splitlines(), there.decode().splitlines()
    except UnicodeDecodeError:
        return ""
    line = next((i for i, pair in enumerate(zip(ours, theirs, strict=False), 1) if pair[0] != pair[1]), None)
    return f" from line {line or min(len(ours), len(theirs)) + 1} on"
