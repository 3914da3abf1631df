"""The boards as one HTML page that needs nothing but itself: no network, no other file.

Click a heading to sort and a cell for its conditions; its number links to the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from lra import console
from lra.console import rate, size
from lra.cost.growth import TABLE_2
from lra.leaderboard import abilities, columns, notes, pick, predict, pretrained, race, reading
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.board import Board, Column, Line, Mark
from lra.leaderboard.chosen import COMMAND, wanted
from lra.leaderboard.columns import Extra
from lra.leaderboard.look import SCRIPT, STYLE
from lra.leaderboard.pick import data
from lra.leaderboard.predict import Table
from lra.marks import said
from lra.marks.abilities import whole
from lra.marks.capacity import Capacity
from lra.marks.race import Learnt
from lra.plot.places import FOLDER, slug

HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<title>Long Range Arena leaderboard</title>
<style>{STYLE}{pick.STYLE}{reading.STYLE}</style>
</head>
<body>
<main>
<h1>Long Range Arena leaderboard</h1>
"""
LEAD = """<p class="lead">Made by <code>{}</code> from the records in <code>runs/</code>; never edited.
Click a heading to sort and a cell for its conditions; its number leads to the record.</p>
"""


def escaped(text: str) -> str:
    """Text of a record as text, in an element or a quoted attribute: no tag, no end of the attribute."""
    return escape(console.line(text))


def chart(board: Board) -> str:
    """Where `lra.plot` puts a board's bubble chart."""
    return f"{FOLDER}/bubble-{slug(f'{board.budget}-{board.timed}-{board.dtype}')}.svg"


def _inline(svg: bytes) -> str:
    """An SVG file as part of a page: without its XML declaration, document type and metadata."""
    text = svg.decode()
    start, stop = text.find("<metadata>"), text.find("</metadata>")
    if stop > start >= 0:
        text = text[:start] + text[stop + len("</metadata>") :]
    return text[text.index("<svg") :]


def render(
    boards: Sequence[Board],
    drawn: Mapping[str, bytes],
    able: Sequence[Abilities] = (),
    predicted: Sequence[Table] = (),
    command: str = COMMAND,
) -> str:
    """`drawn`: SVG files by their place below the results folder; what is not among them is left out."""
    out = [HEAD, LEAD.format(escaped(command))]
    if len(boards) + len(able) > 1:
        titles = [b.title for b in (*boards, *able)]
        links = [f'<li><a href="#board-{i}">{escaped(title)}</a></li>' for i, title in enumerate(titles, 1)]
        out.append(
            "<p>Budgets and precisions are never mixed, nor the costs of machines:</p><ul>"
            + "\n".join(links)
            + "</ul>\n"
        )
    names = [*(line.name for board in boards for line in board.lines), *(m for board in able for m in board.models)]
    out.append(f'<div class="families" data-families="{escaped(reading.known(names))}"></div>\n')
    for i, board in enumerate(boards, 1):
        out.append(f'<section id="board-{i}">\n<h2>{escaped(board.title)}</h2>\n{_scores(board)}')
        if board.race:
            out.append(_race(board))
        if board.measured:
            out.append(_costs(board))
        if board.pretrained:
            out.append(_pretrained(board))
        if (name := chart(board)) in drawn:
            label = escaped(f"Accuracy over speed, area for memory: {board.title}")
            out.append(f'<figure role="img" aria-label="{label}">{_inline(drawn[name])}</figure>\n')
        if text := data(board.points, board.race.of if board.race else "core"):
            out.append(f'<div class="pick" data-points="{escaped(text)}"></div>\n')
        out.append(_notes(notes.beneath(board)))
    for i, board in enumerate(able, len(boards) + 1):
        out.append(f'<section id="board-{i}">\n<h2>{escaped(board.title)}</h2>\n{_abilities(board)}')
        out.append(_notes(abilities.beneath(board)))
    for table in predicted:
        out.append(f"<section>\n<h2>{escaped(table.title)}</h2>\n{_predicted(table)}{_notes([predict.NOTE])}")
    return "".join(out) + f"</main>\n<script>{SCRIPT}{pick.SCRIPT}{reading.SCRIPT}</script>\n</body>\n</html>\n"


def _notes(sentences: Sequence[str]) -> str:
    listed = "\n".join(f"<li>{escaped(note)}</li>" for note in sentences)
    return f'<ul class="notes">\n{listed}\n</ul>\n</section>\n'


def _table(
    caption: str, head: Sequence[tuple[str, str]], bodies: Sequence[tuple[str, Sequence[str]]], kind: str = ""
) -> str:
    """head: (heading in HTML, explanation); bodies: (class, rows). Only rows within a body are sorted. kind: its
    class, exams where columns may be chosen."""
    titles = "".join(
        f'<th scope="col" title="{escaped(about)}"><button type="button">{title}</button></th>' for title, about in head
    )
    parts = [f'<tbody class="{kind}">\n' + "\n".join(rows) + "\n</tbody>\n" for kind, rows in bodies if rows]
    return (
        f'<div class="box"><p>{escaped(caption)}</p>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}"><table class="{kind}">\n'
        f"<thead><tr>{titles}</tr></thead>\n{''.join(parts)}</table></div></div>\n"
    )


def _broken(title: str) -> str:
    """A heading with what departs from the standard exam on a line of its own."""
    first, bracket, rest = escaped(title).partition(" (")
    return f"{first}<small>({rest}</small>" if bracket else first


def _scores(board: Board) -> str:
    head = [("Model", "sort by name"), *((_broken(c.title), _about(c)) for c in board.columns)]
    extras = [each for each in columns.found() if wanted(board.chosen, each.title.lower())]
    head += [(_broken(each.title), each.about) for each in extras]
    kinds = ("model", "variant", "pixels", "floor")
    bodies = [(kind, [_row(line, board, extras) for line in board.of(kind)]) for kind in kinds]
    caption = "Test accuracy, %: ± half of its 95 % interval, rank, skill; bold: best, or the same and not told apart"
    return _table(caption, head, bodies, "exams")


def _row(line: Line, board: Board, extras: Sequence[Extra]) -> str:
    cells = [*(_cell(line, c, board) for c in board.columns), *(_extra(each, line) for each in extras)]
    return f"<tr>{_name(line)}{''.join(cells)}</tr>"


def _about(column: Column) -> str:
    if column.over:
        return f"mean over {', '.join(column.over)}"
    parts = [f"row {column.key}", "" if column.standard else "a stand-in, not the standard exam"]
    parts.append(f"{column.items:,} test items" if column.items else "no run yet")
    return ", ".join(p for p in parts if p)


def _name(line: Line) -> str:
    return f'<th scope="row">{escaped(notes.name(line))}</th>'


def _extra(column: Extra, line: Line) -> str:
    """A cell of one of lra.leaderboard.columns."""
    if (value := column.value(line)) is None:
        return f'<td class="none">{escaped(column.text(line))}</td>'
    return f'<td data-value="{value:.6g}"{" class=odd" * column.odd(line)}>{escaped(column.text(line))}</td>'


def _cell(line: Line, column: Column, board: Board) -> str:
    mark = line.mark(column.key)
    if mark.accuracy is None:
        text = notes.score(mark)
        kind = "none" if text == "-" else "failure"
        return f'<td class="{kind}" title="{escaped(_conditions(mark, column, board))}">{_linked(text, mark)}</td>'
    number = _linked(notes.percent(mark.accuracy), mark)
    parts = [f"<b>{number}</b>" if mark.best else number]
    if mark.half is not None:
        parts.append(f"<small> ±{notes.percent(mark.half)}</small>")
    if signs := notes.marked(mark):
        parts.append(f"<small>{escaped(signs)}</small>")
    below = [f"rank {notes.rank(mark, '–')}"] if mark.rank else []
    below += [f"skill {notes.skill(mark)}"] if mark.skill is not None else []
    below += ["above chance {}/{}".format(*mark.above_chance)] if mark.above_chance else []
    below += _seeds(mark.files)
    if below:
        parts.append(f"<small class=more>{'<br>'.join(below)}</small>")
    about = escaped(_conditions(mark, column, board))
    return f'<td data-value="{mark.accuracy:.6g}" title="{about}">{"".join(parts)}</td>'


def _linked(text: str, mark: Mark) -> str:
    """The text as a link to the record; of several seeds to the first, see `_seeds`."""
    return f'<a href="{escaped(quote(mark.files[0]))}">{escaped(text)}</a>' if mark.files else escaped(text)


def _seeds(files: Sequence[str]) -> list[str]:
    """Links to the records of several seeds."""
    links = [f'<a href="{escaped(quote(file))}">{i}</a>' for i, file in enumerate(files, 1)]
    return [f"runs {' '.join(links)}"] if len(links) > 1 else []


def _conditions(mark: Mark, column: Column, board: Board) -> str:
    """All that a number depends on and a reader may ask for, in one line."""
    if mark == Mark():
        return f"{column.title}: no record"
    if column.over:
        return f"{column.title}: mean over {', '.join(column.over)}"
    facts = [f"row {column.key}", board.title]
    facts += [f"on {' and '.join(mark.machines)}"] if mark.machines and not board.machine else []
    if mark.accuracy is None and mark.status != "ok":
        facts.append(f"{mark.status}: {mark.reason or 'no reason recorded'}")
    if mark.low is not None:
        facts.append(f"95 % interval {notes.percent(mark.low)} to {notes.percent(mark.high)}")
    if mark.seeds:
        facts.append(f"{mark.seeds} seed{'s' * (mark.seeds > 1)}" + f", {mark.failed} failed" * bool(mark.failed))
    if mark.items:
        facts.append(f"{mark.items:,} test items")
    if mark.steps:
        facts.append(f"{mark.steps:,} steps")
    if mark.contract:
        facts.append(f"breaks the contract: {mark.contract}")
    if mark.blind:
        facts.append(f"{100 * mark.blind:.1f} % of the positions cannot move an answer")
    facts += [f"chosen by {mark.searched}"] if mark.searched else []
    facts += mark.departs
    if mark.parameters:
        facts.append(console.parameters(mark))
    if mark.examples_per_second:
        facts.append(f"{rate(mark.examples_per_second)} training examples/s")
    if mark.step_peak_bytes:
        facts.append(f"step peak {size(mark.step_peak_bytes)}")
    if mark.relative_speed is not None:
        facts.append(f"{notes.times(mark.relative_speed)}x the Transformer's speed")
    facts.append(f"data {mark.fingerprint or 'unknown'}")
    return "; ".join([*facts, *mark.run_ids])


def _race(board: Board) -> str:
    """Sorted by the accuracy at the end."""
    found = board.race
    columns = [c for c in board.columns if any((line.name, c.key) in found.cells for line in board.lines)]
    head = [("Model", "sort by name"), *((_broken(c.title), f"row {c.key}") for c in columns)]
    rows = []
    for line in board.lines:
        cells = [found.cells.get((line.name, c.key)) for c in columns]
        if any(cells):
            texts = [race.text(found, line.name, c.key) for c in columns]
            shown = "".join(_raced(text, cell) for text, cell in zip(texts, cells, strict=True))
            rows.append(f"<tr>{_name(line)}{shown}</tr>")
    caption = f"{race.title(found)}: accuracy on valid as minutes go by, minutes to the floor"
    return _table(caption, head, [("model", rows)])


def _raced(text: str, cell: Learnt | None) -> str:
    if cell is None or cell.best[-1] is None:
        return f'<td class="none">{escaped(text)}</td>'
    return f'<td data-value="{cell.best[-1]:.6g}">{escaped(text)}</td>'


def _costs(board: Board) -> str:
    head = [("Model", "sort by name")]
    head += [(f"speed {n // 1024}K", f"training steps/s at length {n}, relative to the Transformer's") for n in TABLE_2]
    head += [(f"memory {n // 1024}K", f"step peak at length {n}, relative to the Transformer's") for n in TABLE_2]
    rows = []
    for line in board.lines:
        if line.costs:
            costs = [line.costs.get(n) for n in TABLE_2]
            values = [*(c and c.speed for c in costs), *(c and c.memory for c in costs)]
            cells = "".join(_ratio(t, v) for t, v in zip(notes.ratios(line), values, strict=True))
            rows.append(f"<tr>{_name(line)}{cells}</tr>")
    return _table(f"A training step relative to the Transformer's: {board.measured}", head, [("model", rows)])


def _ratio(text: str, value: float | None) -> str:
    if value is None:
        return f'<td class="{"none" if text == "-" else "failure"}">{escaped(text)}</td>'
    return f'<td data-value="{value:.6g}">{escaped(text)}</td>'


def _predicted(table: Table) -> str:
    rows = [
        f'<tr><th scope="row">{escaped(first)}</th>{"".join(f"<td>{escaped(text)}</td>" for text in rest)}</tr>'
        for first, *rest in table.lines
    ]
    return _table(table.title, [(name, "") for name in predict.HEAD], [("model", rows)])


def _pretrained(board: Board) -> str:
    rows = [
        f'<tr><th scope="row">{escaped(first)}</th>{"".join(f"<td>{escaped(text)}</td>" for text in rest)}</tr>'
        for first, *rest in pretrained.rows(board)
    ]
    return _table("Pretrained, beside from scratch", [(name, "") for name in pretrained.HEAD], [("model", rows)])


def _abilities(board: Abilities) -> str:
    """The deeper a cell's ground, the larger s; bold where every seed has learnt the exam."""
    head = [("Model", "sort by name"), ("Learnt", "exams that every seed has learnt")]
    head += [
        (f"<small>{escaped(c.asks)}</small>{_broken(c.title)}", f"row {c.key}, asks for {c.asks}")
        for c in (*board.columns, *board.extents)
    ]
    bodies = []
    for kind in ("model", "variant"):
        models = [m for m in board.models if (m in board.variants) == (kind == "variant")]
        bodies.append((kind, [_able_row(board, model) for model in models]))
    caption = "Seeds that have learnt the exam, s from its floor to its ceiling, sequences to learn; bold: every seed"
    return _table(caption, head, bodies, "exams")


def _able_row(board: Abilities, model: str) -> str:
    count = board.counts(model)
    cells = "".join(_able(board, model, column) for column in (*board.columns, *board.extents))
    learnt = f'<td data-value="{count.split()[0]}">{escaped(count)}</td>'
    return f'<tr><th scope="row">{escaped(board.called(model))}</th>{learnt}{cells}</tr>'


def _able(board: Abilities, model: str, column: abilities.Column) -> str:
    cell = board.cells.get((model, column.key))
    if cell is None:
        return f'<td class="none">{escaped(said.NOTHING)}</td>'
    about = escaped("; ".join(abilities.conditions(cell, column)))
    if column.extent:
        return _extent(board.text(model, column), cell.capacity, about)
    first = f'<a href="{escaped(quote(cell.files[0]))}">{escaped(said.learnt(cell))}</a>'
    if not cell.seeds:
        return f'<td class="{"none" if cell.status == "ok" else "failure"}" title="{about}">{first}</td>'
    first = f"<b>{first}</b>" if whole(cell) else first
    below = "<br>".join([f"s {escaped(said.score(cell))}", escaped(said.sequences(cell)), *_seeds(cell.files)])
    ground = f'class="heat" style="--s:{min(max(cell.score, 0), 1):.3f}"'
    return f'<td {ground} data-value="{cell.score:.6g}" title="{about}">{first}<small class=more>{below}</small></td>'


def _extent(text: str, found: Capacity | None, about: str) -> str:
    """Sorted by what it is, what is beyond all that was asked last."""
    if found is None:
        return f'<td class="none" title="{about}">{escaped(text)}</td>'
    return f'<td data-value="{found.at:.6g}" title="{about}">{escaped(text)}</td>'
