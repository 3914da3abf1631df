"""Is what is published in a results folder what its records give, and are the records whole?

    python -m lra.leaderboard [results_dir=results] --check

One line for each thing that is wrong, and exit code 1; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lra import console
from lra.errors import UserError
from lra.leaderboard import abilities, files, paper, predict
from lra.leaderboard.view import boards
from lra.marks import runs
from lra.marks.abilities import CELL
from lra.marks.query import asked
from lra.plot.places import FOLDER
from lra.record import record, sheet
from lra.record.answers import Answers
from lra.results import Results

PICTURES = (".png", ".svg")
REBUILD = {"leaderboard": "python -m lra.leaderboard", "figures": "python -m lra.plot"}


def check(results: Results, place: Path | None = None) -> int:
    """Print what is wrong; 0 if nothing is, else 1. place: a folder with files of a choice, which is made again."""
    astray = strays(results)
    wrong = [f"{file}: {said}" for file, said in sorted([*of_records(results), *astray])]
    wrong += of_groups(results.runs)
    given = expected(results)
    wrong += of_published(results.folder, given)
    chosen = of_choices(results, place)
    wrong += [line for lines in chosen.values() for line in lines]
    count = len(results.runs) + len(results.damaged) + len(astray)
    for line in wrong:
        print(console.line(" ".join(line.split())))
    if wrong:
        print(f"{len(wrong)} wrong, of {count} records and {len(given) + len(chosen)} published files")
        return 1
    print(f"{count} records are whole; {len(given) + len(chosen)} published files are what they give")
    return 0


def of_records(results: Results) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it): its schema, its digest, its place, its predictions."""
    yield from results.damaged
    yield from ((file, f"says it is {own}") for file, own in results.misplaced)
    yield from results.conflicts
    for r in results.runs.itertuples():
        if r.edited:
            yield r.file, "its digest does not match its content, which was edited after it was written"
        if r.status != "ok" and pd.isna(r.reason):
            yield r.file, f"reason is null; allowed one line that says why the status is {r.status}"
        yield from ((r.file, line) for line in of_predictions(r, results.answers))


def strays(results: Results) -> list[tuple[str, str]]:
    """The same of JSON files below runs/ that lie where no record does."""
    known = {*results.runs.file, *results.trials.file, *results.repeated, *(file for file, _ in results.damaged)}
    found = (p for f in results.folders for p in (f / "runs").rglob("*.json") if not p.name.startswith("."))
    out = []
    for path in sorted(found):
        file = results.below(path)
        if file in known:
            continue
        try:
            r = sheet.read(path)
            out.append((file, f"says it is runs/{r.task}/{r.model}/{r.run_id}.json"))
        except sheet.Damaged as error:
            out.append((file, error.said))
    return out


def of_predictions(run: Any, answers: Answers) -> Iterator[str]:
    """What is wrong with the stored answers of a row of `Results.runs`."""
    if not isinstance(run.answers, str):
        return
    name, stored = Path(run.answers).name, answers.stored(run.answers)
    if stored is None:
        said = answers.broken.get(run.answers)
        yield f"its predictions {name}: {said}" if said else f"its predictions {name} are not there"
    elif stored.sha256 != run.sha256:
        yield f"its predictions {name} do not have the SHA-256 it names"
    elif stored.items != run.items:
        yield f"{stored.items} predictions for items_test {run.items}"
    elif stored.accuracy is not None and not abs(stored.accuracy - run.accuracy) <= 1e-6:
        yield f"accuracy_test {run.accuracy}, but its predictions give {stored.accuracy:.6f}"


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
    able = table.ability.astype(bool)
    for group, row, part in _columns(table[~able], runs.JOINED):
        yield from _data(group, row, part)
    for group, row, part in _columns(table[able], CELL):
        yield from _data(group, row, part)


def _columns(table: pd.DataFrame, cell: list[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(group in words, row, runs as the budget has them that ended ok) of each column of a board."""
    ended = runs.latest(table, cell)
    ended = ended[(ended.status == "ok") & ~ended.variant.astype(bool)] if len(ended) else ended
    for (*group, row), part in ended.groupby(cell[:-1]) if len(ended) else ():
        yield ", ".join(filter(None, group)), row, part


def _data(group: str, row: str, part: pd.DataFrame) -> Iterator[str]:
    newest = part.drop_duplicates("model", keep="last").fingerprint.dropna().unique()
    if len(newest) > 1:
        yield f"{group}, {row}: results on different data ({', '.join(sorted(newest))}) would share a column"


def expected(results: Results) -> dict[str, bytes]:
    """Name below the results folder -> content, of all that the records give."""
    from lra.plot import render

    figures, shown, able = render.render(results), boards(results), abilities.boards(results)
    more = predict.tables(results), results.derived
    return (files.files(shown, figures, able, *more) if shown or able else {}) | figures


def of_published(folder: Path, given: Mapping[str, bytes]) -> Iterator[str]:
    """Published files that are missing, stale or of no record."""
    from lra.plot import render

    for name, content in given.items():
        path = folder / name
        command = REBUILD["figures" if "/" in name else "leaderboard"]
        if not path.exists():
            yield f"{name}: missing; rebuild it: {command}"
        elif (there := path.read_bytes()) != content:
            yield f"{name}: differs from what the records give{_first(there, content)}; rebuild it: {command}"
    figures = {name: content for name, content in given.items() if "/" in name}
    extra = [path.relative_to(folder).as_posix() for path in render.stale(folder, figures)]
    extra += [name for name in files.NAMES if name not in given and (folder / name).exists()]
    yield from (f"{name}: no record gives it any more; delete it" for name in sorted(extra))


def of_choices(results: Results, place: Path | None) -> dict[Path, list[str]]:
    """Files that carry a choice, with what is wrong with each: in the results folder, and in `place`."""
    folders = [results.folder / FOLDER, *([place] if place is not None else [])]
    found: dict[tuple[str, ...], dict[Path, list[str]]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.*")) if folder.is_dir() else ():
            drawn, words = _carried(path)
            if words:
                found.setdefault((drawn, *words), {})[path] = []
    for (drawn, *words), paths in found.items():
        try:
            given = _again(results, drawn, words)
        except UserError as error:
            given = {}
            for path in paths:
                paths[path].append(f"{path}: its choice cannot be made any more: {error}")
        for path in paths if given else ():
            content = given.get(path.name, given.get(path.suffix))
            if content is None:
                paths[path].append(f"{path}: no record gives it any more; delete it")
            elif path.read_bytes() != content:
                paths[path].append(f"{path}: differs from what the records give{_first(path.read_bytes(), content)}")
    return {path: lines for paths in found.values() for path, lines in paths.items()}


def _carried(path: Path) -> tuple[bool, list[str]]:
    """Is it one that lra.plot makes, and the words of the choice that it carries?"""
    from lra.plot import chosen

    if path.suffix in (*PICTURES, ".csv") and (words := chosen.carried(path)):
        return True, words
    return False, files.carried(path) if path.suffix in (Path(name).suffix for name in files.NAMES) else []


def _again(results: Results, drawn: bool, words: list[str]) -> dict[str, bytes]:
    """File name, or of a leaderboard also its ending -> content."""
    from lra.plot import chosen, render

    if drawn:
        made, query = chosen.asked_for(results, words, True)[0], asked(words)[0]
        plain = {Path(name).name: content for name, content in made.items()}
        return plain | {chosen.called_by(query, Path(name)): content for name, content in plain.items()}
    for_paper, words = paper.asked(words)
    found = results.selected(asked(words)[0])
    if for_paper is not None:
        given = files.paper(found, boards(found), for_paper)
        return given | {".tex": given["paper.tex"]}
    given = files.files(boards(found), render.charts(found), abilities.boards(found))
    return given | {Path(name).suffix: content for name, content in given.items()}


def _first(there: bytes, content: bytes) -> str:
    """Where two texts first differ; nothing for pictures."""
    try:
        ours, theirs = content.decode().splitlines(), there.decode().splitlines()
    except UnicodeDecodeError:
        return ""
    line = next((i for i, pair in enumerate(zip(ours, theirs, strict=False), 1) if pair[0] != pair[1]), None)
    return f" from line {line or min(len(ours), len(theirs)) + 1} on"
