"""What a reader must know beneath a board, in sentences; and numbers as all formats write them."""

from __future__ import annotations

from collections.abc import Callable

from lra.cost.growth import TABLE_2
from lra.leaderboard import race
from lra.leaderboard.board import OUT_OF_LINE, Board, Line, Mark
from lra.marks.skill import CUT, shown

DAGGER = "†"  # beside models whose parameters are out of line
BROKEN = "‡"  # beside accuracies of a model that breaks the contract
BLIND = "§"  # beside accuracies of a model that cannot see the whole of the exam
DISTURBED = "~"  # beside costs measured on a busy machine


PRETRAINED = (
    "Pretrained on the inputs of the training split alone, then trained on the labels; core-minutes of both, apart."
    " From scratch is the same model without, with its other overrides where that is on record. In no rank and no"
    " average with the others."
)


def percent(value: float | None) -> str:
    """Accuracy in %, without the sign."""
    return "-" if value is None else f"{100 * value:.1f}"


def score(mark: Mark, join: str = "±") -> str:
    """ "41.4±2.1", a failure's status, or "-"."""
    if mark.accuracy is None:
        return mark.status if mark.status not in (None, "ok") else "-"
    return percent(mark.accuracy) + (f"{join}{percent(mark.half)}" if mark.half is not None else "") + marked(mark)


def marked(mark: Mark) -> str:
    """The signs behind an accuracy that a reader must not take as it stands."""
    return BROKEN * bool(mark.contract) + BLIND * bool(mark.blind)


def rank(mark: Mark, dash: str = "-") -> str:
    """ "1-4", "2" where nothing is tied, "" where nothing was compared."""
    if mark.rank is None:
        return ""
    best, worst = mark.rank
    return f"{best}" if best == worst else f"{best}{dash}{worst}"


def skill(mark: Mark) -> str:
    return "-" if mark.skill is None else shown(mark.skill)


def times(value: float | None, disturbed: bool = False) -> str:
    return "-" if value is None else f"{value:.2f}{DISTURBED if disturbed else ''}"


def ratios(line: Line, unit: str = "x") -> list[str]:
    """Relative speed at each length, then relative memory; a failure's status in both."""
    speed, memory = [], []
    for n in TABLE_2:
        cost = line.costs.get(n)
        if cost is None or cost.status != "ok":
            speed.append(cost.status if cost else "-")
            memory.append(cost.status if cost else "-")
        else:
            speed.append(times(cost.speed, cost.disturbed) + unit * (cost.speed is not None))
            memory.append(times(cost.memory) + unit * (cost.memory is not None))
    return [*speed, *memory]


def name(line: Line) -> str:
    """The model's name as tables show it."""
    prefix = {"floor": "floor: ", "pixels": "2-D: "}.get(line.kind, "")
    return f"{prefix}{called(line)}{f' {DAGGER}' if line.out_of_line else ''}"


def called(line: Line) -> str:
    return line.title or line.name


def beneath(board: Board) -> list[str]:
    """The sentences under a board, in order; only those that apply."""
    rows = [c for c in board.columns if not c.over]
    timed = race.beneath(board.race) if board.race else []
    shown = [c for c in rows if not board.empty(c)]
    out = [
        "Test accuracy in %, mean over seeds, ± half of its 95 % interval. With one seed that interval is about the one"
        " trained model; with several it holds the luck of training too."
    ]
    if seeds := _seeds(board):
        out.append(seeds)
    stand_ins = [c for c in shown if not c.standard]
    if stand_ins:
        listed = "; ".join(f"{c.title} is {c.key}" for c in stand_ins)
        out.append(f"Stand-ins, not the standard exams, and no match for published columns: {listed}.")
    out += _averages(board)
    out += _ranks(board)
    zeros = {c.title: next((m.floor for line in board.lines if (m := line.mark(c.key)).floor), None) for c in shown}
    cut = any((m := line.mark(c.key)).skill is not None and m.skill < CUT for line in board.lines for c in shown)
    by_rule: dict[str, list[str]] = {}
    for title, floor in zeros.items():
        by_rule.setdefault(floor or "", []).append(title)
    if known := "; ".join(f"{rule} on {', '.join(titles)}" for rule, titles in by_rule.items() if rule):
        out.append(
            "Skill is (accuracy - floor) / (1 - floor): 0 is the best rule on record that is blind to long range, 1 all"
            f" right{f'; <{CUT:g} is cut' * cut}. Floors: {known}."
        )
    left = [c for c in shown if any(line.mark(c.key).above_chance for line in board.lines)]
    if left:
        out.append(
            f"Above chance, on {' and '.join(c.title for c in left)}: seeds whose accuracy is above the commonest"
            " label's share beyond a one-sided 99 % limit, of all that ended."
        )
    if known := board.of("pixels"):
        out.append(
            "2-D: knows the rows and columns of an image, which the others are not told; in no rank and no average with"
            f" them: {', '.join(map(called, known))}."
        )
    if board.pretrained:
        out.append(PRETRAINED)
    if odd := [line for line in board.lines if line.out_of_line]:
        listed = ", ".join(f"{called(line)} {line.ratio:.3f}x" for line in odd)
        out.append(
            f"{DAGGER} parameters differ from the Transformer's by more than {100 * OUT_OF_LINE:.0f} %: {listed}."
        )
    out += [*_costs(board), *timed, *_machines(board), *_contract(board), *_stale(board)]
    return [*out, *_searched(board), *_departures(board), *_edited(board), *_failures(board)]


def _averages(board: Board) -> list[str]:
    """What they are over."""
    out = []
    titles = {c.key: c.title for c in board.columns}
    for column in board.columns:
        if column.over and not board.empty(column):
            text = (
                f"{column.title}: mean over {', '.join(titles.get(k, k) for k in column.over)}; - where one is missing."
            )
            out.append(text + ("" if column.standard else " It is not the papers' average."))
        elif column.over:
            out.append(f"{column.title}: no model has an accuracy on all of its {len(column.over)} exams.")
    return out


def _costs(board: Board) -> list[str]:
    out = []
    if board.measured:
        where = f", {board.measured_on}" * (board.measured_on != board.machine)
        text = f"Speed and memory: a training step on {board.measured}{where}, relative to the Transformer's at equal"
        text += " batch."
        busy = any(c.disturbed for line in board.lines for c in line.costs.values())
        out.append(text + (f" {DISTURBED} measured while the machine was busy." if busy else ""))
    elif not board.chosen.columns:
        out.append("Speed and memory at 1K to 4K: not measured here (python -m lra sweep=cost).")
    return out


def _machines(board: Board) -> list[str]:
    """Whose runs they are, and whether that matters."""
    counts: dict[str, int] = {}
    for mark in (mark for line in board.lines for mark in line.marks.values()):
        for name in mark.machines:
            counts[name] = counts.get(name, 0) + 1
    if board.machine:
        return []
    names = sorted(counts, key=lambda name: (-counts[name], name))
    out = [f"Accuracies are over the runs of all machines: {', '.join(f'{n}, {counts[n]} cells' for n in names)}."]
    out[0] += f" Of runs of one seed the newest counts. Costs of runs are those of {board.timed}."
    if not board.tested:
        return out
    titles, shown = {c.key: c.title for c in board.columns}, {line.name for line in board.lines}
    differ = [f"{model} on {titles[key]}" for model, key in sorted(board.apart) if model in shown and key in titles]
    text = f"Machines, by an F-test between them over seeds, Holm over the {board.tested} cells that can tell, "
    text += f"differ beyond chance on {len(board.apart)}" if board.apart else "do not differ beyond chance"
    return [*out, text + (f": {', '.join(differ)}." if differ else ".")]


def _contract(board: Board) -> list[str]:
    """What the signs mean, for each cell that has one."""
    broken, blind = [], []
    for line in board.lines:
        for column in board.columns:
            mark = line.mark(column.key)
            if mark.contract:
                broken.append(f"{called(line)} on {column.title} ({mark.contract})")
            if mark.blind:
                blind.append(f"{called(line)} on {column.title} {100 * mark.blind:.1f} %")
    out = []
    if broken:
        out.append(
            f"{BROKEN} breaks the contract of models; its number is to be read with that in mind: {'; '.join(broken)}."
        )
    if blind:
        out.append(f"{BLIND} positions that cannot move an answer, as the model is read out: {'; '.join(blind)}.")
    return out


def _departures(board: Board) -> list[str]:
    """What a model's own file sets otherwise than the exam's sizes, and where."""
    listed = _listed(board, lambda name, mark: f"{name} has {', '.join(mark.departs)}" if mark.departs else None)
    return [f"Where a model departs from the sizes of the exam: {listed}."] if listed else []


def _searched(board: Board) -> list[str]:
    """What each has had of a search of settings."""
    listed = _listed(board, lambda name, mark: f"{name}, {mark.searched}" if mark.searched else None)
    return [f"Chosen by the accuracy on valid (lra.tune), all else as the budget has it: {listed}."] if listed else []


def _stale(board: Board) -> list[str]:
    """What was made before a model or an exam was changed."""
    listed = _listed(board, lambda name, mark: f"{name}, {mark.stale}" if mark.stale else None)
    return [f"Made before what was run has changed, and to be made again: {listed}."] if listed else []


def _listed(board: Board, said: Callable[[str, Mark], str | None]) -> str:
    """What is to be said of marks, each once, with the columns that it holds for."""
    found: dict[str, list[str]] = {}
    for line in board.lines:
        for column in board.columns:
            if text := said(called(line), line.mark(column.key)):
                found.setdefault(text, []).append(column.title)
    return "; ".join(f"{what} ({', '.join(titles)})" for what, titles in found.items())


def _edited(board: Board) -> list[str]:
    """A sentence for each cell of a record that was changed after it was written."""
    out = []
    for line in board.lines:
        for column in board.columns:
            if files := line.mark(column.key).edited:
                out.append(f"{called(line)} on {column.title}: edited after it was written ({', '.join(files)}).")
        if lengths := [str(n) for n, cost in sorted(line.costs.items()) if cost.edited]:
            out.append(f"{called(line)}, its cost at length {', '.join(lengths)}: edited after it was written.")
    return out


def _seeds(board: Board) -> str:
    """Which columns have how many seeds."""
    counts = {}
    for column in board.columns:
        found = sorted({m.seeds for line in board.of("model") if (m := line.mark(column.key)).seeds})
        if found and not column.over:
            counts[column.title] = " to ".join(str(n) for n in sorted({found[0], found[-1]}))
    if set(counts.values()) == {"1"}:
        return "One seed each."
    return f"Seeds: {', '.join(f'{n} ({title})' for title, n in counts.items())}." if counts else ""


def _ranks(board: Board) -> list[str]:
    ranked, names = [c for c in board.columns if c.resolution is not None], {line.name for line in board.lines}
    out = []
    if board.chosen:
        out.append(
            f"Chosen to be shown: {' '.join(board.chosen.words)}. Ranks, and what rests on them, are those among all"
            f" {board.compared} models of the board"
            + (", runs with overrides among them" if board.chosen.varied else "")
            + ", whichever of them are shown."
        )
    if ranked:
        told = ", ".join(f"{100 * c.resolution:.1f} points ({c.title})" for c in ranked)
        out.append(
            "Rank 1-4: paired tests on the same test items (Holm over all pairs of a column) cannot tell the model from"
            " others; in 95 of 100 tables all true ranks of a column lie in the ranges. Told apart at least 4"
            f" times in 5: differences of {told}."
        )
    for column in board.columns:
        if not column.over and (listed := ", ".join(n for n in column.unranked if n in names)):
            out.append(f"Not ranked on {column.title}, for want of stored answers on the same data: {listed}.")
    return out


def _failures(board: Board) -> list[str]:
    """A sentence a failed cell, with its reason; and one for seeds that failed beside others that did not."""
    out = []
    for line in board.lines:
        for column in board.columns:
            mark = line.mark(column.key)
            if mark.accuracy is None and mark.status not in (None, "ok"):
                out.append(f"{called(line)} on {column.title}: {mark.status} ({mark.reason or 'no reason recorded'}).")
            elif mark.failed:
                of = mark.seeds + mark.failed
                out.append(f"{called(line)} on {column.title}: {mark.failed} of {of} seeds failed ({mark.reason}).")
        lengths = [f"{n} ({c.status})" for n, c in sorted(line.costs.items()) if c.status != "ok"]
        if lengths:
            out.append(f"{called(line)} has no cost at length {', '.join(lengths)}.")
    return out
