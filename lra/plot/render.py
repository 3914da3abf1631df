"""Every figure of a results folder, from its records.

For each budget, machine and precision the bubble chart, accuracy by task and learning curves; for each budget and
precision a heat map of abilities, capacity over state, accuracy over distance and s over length, for light pages and
for dark ones, as are accuracies over the minutes of a race and what treatments do; for each cost
sweep the curves of time and memory.
Reads records only, without torch. The same records give the same bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lra import ledger
from lra.cost import growth
from lra.cost import points as costs
from lra.marks import abilities, derived
from lra.marks.cells import costed
from lra.marks.exams import Exam, ordered
from lra.marks.means import averaged, one_an_exam, pretrained, standard
from lra.marks.query import called as briefly
from lra.marks.runs import GROUP, REFERENCE, one_thread, titled
from lra.plot import style
from lra.plot.bubble import About, bubble
from lra.plot.capacity import capacity
from lra.plot.choice import DEFAULT, Choice, with_choice
from lra.plot.exams import accuracy, curves
from lra.plot.forked import side_by_side
from lra.plot.heat import heat
from lra.plot.lengths import cost, throughput
from lra.plot.places import COMMAND, FOLDER, slug
from lra.plot.profiles import reach, twins
from lra.plot.race import race
from lra.plot.treated import treated
from lra.results import Results

HALVES = (
    ("bubble", "cost", "throughput"),
    ("curves", "accuracy", "race", "abilities", "capacity", "reach", "twins", "treated"),
)  # take about as long to draw
KINDS = HALVES[0] + HALVES[1]
CHOSEN = "chosen"  # how the files of charts begin that somebody chose, which nobody expects
LONGEST = 30  # letters of a model's name with its overrides
AT = 4096  # the length at which figure 3 of the paper takes speed and memory


def at_length(points: pd.DataFrame, length: int = AT) -> tuple[pd.DataFrame, str] | None:
    """Speed relative to the reference and step peak bytes at one length of a cost sweep, in words on
    what; the sweep with most models at that length counts. None if there is none with the reference."""
    known = costs.newest(points[(points.phase == "train") & (points.length == length)])
    best = costs.widest(known)
    if best is None:
        return None
    best = best.set_index("model")
    speed = best.seconds_median[REFERENCE] / best.seconds_median.astype(float)
    out = pd.DataFrame({"relative_speed": speed, "step_peak_bytes": best.step_peak_bytes.astype(float)})
    return out, f"{best.task.iloc[0]} at {style.short(length)}, batch {best.batch_size.iloc[0]}"


def charted(points: pd.DataFrame, sweep: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Points of one group with the speed and memory of its cost sweep, if that has all of its models;
    else with those of its tasks. In words, which."""
    found = at_length(sweep) if len(sweep) else None
    known = points.dropna(subset=["accuracy", "relative_speed", "step_peak_bytes"]).model
    if found is None or not set(known) <= set(found[0].dropna().index):
        return points, "geometric mean over tasks"
    values = found[0].reindex(points.model).reset_index(drop=True)
    return points.reset_index(drop=True).assign(**{c: values[c] for c in values}), found[1]


@dataclass(frozen=True)
class Group:
    """What the figures of one budget, machine and precision share."""

    where: str
    name: str
    cells: pd.DataFrame  # of runs as the budget has them
    floors: pd.DataFrame  # on the same data
    left_out: list[str]


def figures(results: Results, kinds: Collection[str] = KINDS) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of everything of these kinds that the records of a results folder can show."""
    shown, points = results.cells, results.points
    usual = drawn_of(results)
    published = ledger.figure_3(results.published) if "bubble" in kinds else None
    names = briefly(shown.model)
    looks = style.looks([*names.values(), *points.model])
    for values, part in usual.groupby(GROUP):
        conditions = dict(zip(GROUP, values, strict=True))
        group = _group(conditions, part, results)
        if "bubble" in kinds:
            failed = [f"{c.model} on {c.row} ({style.said(c.status)})" for c in part[part.accuracy.isna()].itertuples()]
            lost = [f"Without an accuracy: {style.listed(failed)}."] * bool(failed)
            for own, machine in _timed(group, results):
                told = [*lost, *own.left_out]
                yield f"bubble-{own.name}", _bubble(own, machine, results, published, told, looks)
        order = ordered(part["row"], part.exam)
        if "accuracy" in kinds:
            title = f"Accuracy by task: {group.where}"
            named = part.assign(model=part.model.map(names))
            yield f"accuracy-{group.name}", accuracy(named, group.floors, title, group.left_out, looks, order)
        steps = results.learning if "curves" in kinds else pd.DataFrame()
        if len(steps) and len(steps := steps[steps.run_id.isin({i for ids in part.run_ids for i in ids})]):
            title = f"Learning curves: {group.where}"
            of_run = {run: names[cell.model] for cell in part.itertuples() for run in cell.run_ids}
            steps = steps.assign(model=steps.run_id.map(of_run))
            yield f"curves-{group.name}", curves(steps, group.floors, title, group.left_out, looks, order)
        if "race" in kinds:
            yield from _race(group, results, names, looks, order)
    yield from _abilities(results.abilities, kinds)
    yield from _costs(points, results.whole.points, looks, kinds)
    if "treated" in kinds and not results.chosen and len(results.derived):
        yield from _treated(derived.places(results.derived))


def drawn_of(results: Results) -> pd.DataFrame:
    """Cells of runs as the budget has them; of those with overrides too where a choice asks for some, but for
    pretrained ones, which only stand beside the same from scratch."""
    cells = results.cells
    return cells[cells.pretraining.isna()] if results.chosen.varied else standard(cells)


def _bubble(
    group: Group,
    machine: str,
    results: Results,
    published: pd.DataFrame | None,
    told: list[str],
    looks: dict[str, style.Look],
    choice: Choice = DEFAULT,
    dark: bool = False,
) -> Figure:
    """The bubble chart of a group; with published numbers beside it where its averages are over the same exams."""
    conditions = dict(zip(GROUP, group.cells[GROUP].iloc[0], strict=True))
    cells = one_an_exam(group.cells)
    own, speed = charted(averaged(cells), matching(results.whole.points, conditions | {"machine": machine}))
    own = with_choice(own, cells, results, choice, conditions["dtype"])
    if choice == DEFAULT:
        same = matching(results.cells, conditions)
        ahead = same[same.pretraining.notna() & same["row"].isin(cells["row"])]
        own = pretrained(own, ahead, briefly(results.cells.model))
    whole = all(cell.row == cell.exam.of for cell in cells.itertuples())
    best = group.floors[group.floors.local.eq(True)].groupby("row").accuracy.max()
    known = set(cells["row"]) <= set(best.index)
    floor = {"accuracy": float(best[cells["row"].unique()].mean()) if known else None, "skill": 0.0}.get(choice.y)
    racing = results.racing[results.racing.run_id.isin({run for ids in cells.run_ids for run in ids})]
    about = About(
        speed, not whole, floor, racing.of.iloc[0] if len(racing) else "core",
        "the best local floor" if choice.to is None else f"{100 * choice.to:g} %",
    )  # fmt: skip
    if choice == DEFAULT:
        title = f"Accuracy, speed and memory: {group.where}"
        same = whole and {e.of for e in cells.exam} == {e.of for e in _first_average(results.exams.always())}
        return bubble(own, title, published if same else None, told, about, looks)
    return bubble(own, f"{choice.title}: {group.where}", None, told, about, looks, choice, dark)


def chosen(results: Results, choice: Choice) -> Iterator[tuple[str, Figure]]:
    """The bubble charts of a choice, for light pages and for dark ones."""
    usual = drawn_of(results)
    looks = style.looks(briefly(results.cells.model).values())
    for values, part in usual.groupby(GROUP):
        group = _group(dict(zip(GROUP, values, strict=True)), part, results)
        for (own, machine), (shade, dark) in product(_timed(group, results), (("", False), ("-dark", True))):
            name = f"{CHOSEN}-{slug(choice.name)}-{own.name}{shade}"
            yield name, _bubble(own, machine, results, None, own.left_out, looks, choice, dark)


def _timed(group: Group, results: Results) -> Iterator[tuple[Group, str]]:
    """Accuracies of all machines beside the costs of each that has some to be compared."""
    budget, _, dtype = group.cells[GROUP].iloc[0]
    first = group.cells.timed.iloc[0]
    costs, globs = results.timed, results.chosen.machine
    here = costs[(costs.budget == budget) & (costs.dtype == dtype) & costs["where"].isin(group.cells.machine)]
    known = set(here.machine[here.relative_speed.notna() & here.model.isin(group.cells.model)])
    for machine in [first, *sorted(known - {first})]:
        if not globs or machine == first or results.chosen.place("machine", machine) < len(globs):
            cells = costed(group.cells, costs, machine.__eq__)
            cells = cells.assign(model=cells.model.map(briefly(results.cells.model)))
            name = slug(f"{budget}-{machine}-{dtype}")
            yield replace(group, cells=cells, where=titled(budget, machine, dtype), name=name), machine


def _abilities(cells: pd.DataFrame, kinds: Collection[str]) -> Iterator[tuple[str, Figure]]:
    """A halved state or other lengths are asked for by overrides, so that all but the heat map show those too."""
    for (budget, dtype), part in cells.groupby(abilities.GROUP) if len(cells) else ():
        usual, far, where = standard(part), part[part.model.map(ablated)], f"budget {budget}, {dtype}"
        left_out, lost = (
            [f"Not drawn: {len(part) - len(kept)} cells of runs {how}."] * (len(kept) < len(part))
            for kept, how in ((usual, "with overrides"), (far, "that were trained or tested otherwise"))
        )
        far = far.assign(model=far.model.map(called))
        held, look = (
            far.capacity.map(lambda found: found and found.of),
            {"looks": style.looks(far.model), "notes": lost},
        )
        drawn = {
            "abilities": (usual, partial(heat, title=f"What models learn: {where}", notes=left_out)),
            "capacity": (far[held == "pairs"], partial(capacity, title=f"Capacity over state: {where}", **look)),
            "reach": (far[held == "distance"], partial(reach, title=f"Accuracy over distance: {where}", **look)),
            "twins": (far[far.twins.map(bool)], partial(twins, title=f"s at other lengths: {where}", **look)),
        }
        for kind, (shown, draw) in drawn.items():
            for shade, dark in (("", False), ("-dark", True)) if kind in kinds and len(shown) else ():
                yield f"{kind}-{slug(f'{budget}-{dtype}')}{shade}", draw(shown, dark=dark)


def _treated(points: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    for (budget, machine, dtype), part in points.groupby(GROUP):
        title = f"What treatments do: budget {budget}, {machine}, {dtype}"
        for shade, dark in (("", False), ("-dark", True)):
            yield f"treated-{slug(f'{budget}-{machine}-{dtype}')}{shade}", treated(part, title, dark=dark)


def ablated(model: str) -> bool:
    """Does a run depart in the model, its sizes or the lengths that it is tested at, and in nothing else?"""
    return all(word.startswith(("model.", "size.", "task.test_len=")) for word in model.split(" ")[1:])


def called(model: str) -> str:
    """ "mamba2 state=32", without the lengths that it was tested at, which do not make it another."""
    name, *words = model.split(" ")
    told = [word for word in words if not word.startswith("task.test_len=")]
    keys = (word.partition("=") for word in told)
    text = " ".join([name, *(f"{key.rpartition('.')[2]}={value}" for key, _, value in keys)])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _race(
    group: Group, results: Results, names: dict[str, str], looks: dict[str, style.Look], order: Any
) -> Iterator[tuple[str, Figure]]:
    points = results.racing.assign(model=results.racing.model.map(lambda name: names.get(name, name)))
    points = points[points.run_id.isin({run for ids in group.cells.run_ids for run in ids}) & points.accuracy.notna()]
    if points.empty:
        return
    best = group.floors[group.floors.local.eq(True)].groupby("row").accuracy.max().to_dict()
    title = f"Accuracy over {points.of.iloc[0]}-minutes: {group.where}"
    for shade, dark in (("", False), ("-dark", True)):
        yield f"race-{group.name}{shade}", race(points, best, title, group.left_out, looks, order, dark)


def _group(conditions: dict[str, Any], part: pd.DataFrame, results: Results) -> Group:
    where = titled(**conditions)
    overridden = len(matching(results.cells, conditions)) - len(part)
    left_out = [f"Not drawn: {overridden} cells of runs with overrides."] * bool(overridden)
    unseen = [e.of for e in _first_average(results.exams.always()) if e.of not in {x.of for x in part.exam}]
    left_out += [f"Partial: no run yet of {', '.join(unseen)}."] * bool(unseen)
    data, rules = dict(zip(part.row, part.fingerprint, strict=True)), results.floors
    here = rules.loc[[data.get(r) == f for r, f in zip(rules.row, rules.fingerprint, strict=True)]]
    name = slug("{budget}-{machine}-{dtype}".format(**conditions))
    return Group(where, name, part, here, left_out)


def _first_average(exams: list[Exam]) -> list[Exam]:
    """The exams of the average over fewest: all that a chart of means can be expected to hold."""
    least = min((n for e in exams for n in e.averages), default=0)
    return [e for e in exams if least in e.averages]


def _costs(
    points: pd.DataFrame, every: pd.DataFrame, looks: dict[str, style.Look], kinds: Collection[str]
) -> Iterator[tuple[str, Figure]]:
    """every: also what is not shown, for what is relative to the reference."""
    shared = [column for column in costs.GROUP if column != "batch_size"]
    for (mode, *group), part in points.groupby(["mode", *shared], sort=True, dropna=False):
        task, budget, machine, dtype, threads = group
        name = slug(f"{task}-{budget}-{machine}-{dtype}-{threads}-threads")
        words = f"{task}, budget {budget}, {machine}, {dtype}{one_thread(threads)}"
        if mode == "largest" and "throughput" in kinds:
            best = costs.newest(part, "largest").sort_values("run_id")
            best = best.drop_duplicates(["model", "phase", "length"], keep="last")
            yield f"throughput-{name}", throughput(best, f"Throughput over length: {words}", (), looks)
        for batch, own in part.groupby("batch_size") if mode == "fixed" and "cost" in kinds else ():
            title = f"Cost over length at batch {batch}: {words}"
            drawn, key = costs.newest(own), ["model", "phase", "length"]
            failed = own[own.status != "ok"].drop_duplicates(key, keep="last")
            failed = failed[~pd.MultiIndex.from_frame(failed[key]).isin(pd.MultiIndex.from_frame(drawn[key]))]
            whole = matching(every, own[costs.GROUP].iloc[0].to_dict() | {"mode": mode}) if every is not points else own
            crossing = growth.crossing(whole)
            crossing = crossing[crossing.model.isin(own.model)]
            drawing = cost(drawn, failed, growth.fits(own), crossing, title, (), looks)
            yield f"cost-{name}-batch-{batch}", drawing


def matching(table: pd.DataFrame, conditions: dict[str, Any]) -> pd.DataFrame:
    if table.empty:
        return table
    return table[np.logical_and.reduce([table[column] == value for column, value in conditions.items()])]


def render(results: Results) -> dict[str, bytes]:
    """Path below the results folder -> content, of every figure that its records give."""
    first, second = HALVES
    results.cells, results.abilities, results.points, results.floors, results.derived  # noqa: B018  once
    with side_by_side(rendered, results, second) as rest:
        return rendered(results, first) | rest()


def rendered(results: Results, kinds: Collection[str]) -> dict[str, bytes]:
    """What `render` gives, of these kinds, drawn by this process."""
    return filed(figures(results, kinds), results.chosen.words)


def filed(drawn: Iterable[tuple[str, Figure]], words: Sequence[str] = ()) -> dict[str, bytes]:
    """Path below the results folder -> content, of figures by name. words: of the choice, if they are of one."""
    command = shlex.join([*COMMAND.split(), *words]) if words else ""
    return {
        f"{FOLDER}/{name}.{kind}": style.image(figure, kind, command)
        for name, figure in drawn
        for kind in ("png", "svg")
    }


def charts(results: Results) -> dict[str, bytes]:
    """The bubble charts as SVG: what `lra.plot.render.render` gives, less all the rest."""
    drawn = figures(results, ("bubble",))
    return {f"{FOLDER}/{name}.svg": style.image(figure, "svg") for name, figure in drawn}


def stale(folder: Path, drawn: dict[str, bytes]) -> list[Path]:
    """Figures of ours in the folder that the records no longer give."""
    there = (folder / FOLDER).glob("*.*")
    ours = (p for p in there if p.suffix in (".png", ".svg") and p.name.split("-")[0] in KINDS)
    return sorted(p for p in ours if f"{FOLDER}/{p.name}" not in drawn)
