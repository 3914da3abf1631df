"""Two models on the same exam: which is more accurate, how sure that is, and what each costs beside the other.

    python -m lra.compare mine performer task=listops,text [budget=quick] [results_dir=results[,more]]
    python -m lra.compare mine performer task=listops match=parameters [--config-dir DIR]
                                            the first at the width at which it has as many parameters as the second

Differences are paired on the same test items and over seeds (lra.marks.stats), p are after Holm over all lines. Costs
are ratios of what was measured on one machine, in turns where a cost sweep has both. From records; nothing is run.
"""

# This is a door: nobody imports it, because `lra.compare` is the function of that name.
from __future__ import annotations

import shlex
import sys

from lra import console, results
from lra.errors import UserError, guarded
from lra.marks.compare import comparisons, ratios
from lra.marks.query import called
from lra.record.place import config_dir, results_dirs
from lra.settings.words import split, taken

KEYS = ("task", "budget", "match")
HEAD = ("exam", "accuracy", "less that", "difference", "95 %", "p", "seeds", "items")
COSTS = ("cost of a training step", "speed", "memory", "machine", "measured")


def main() -> int:
    (a, b), given, rest = asked(sys.argv[1:])
    folders, own = results_dirs(rest, KEYS), config_dir(sys.argv[1:])
    tasks, budget = given["task"].split(","), given.get("budget", "quick")
    if "match" in given:
        from lra.settings.match import matched

        found = [matched(a, b, task, budget, own) for task in tasks]
        print("\n".join(match.told for match in found))
        names = {task: match.name for task, match in zip(tasks, found, strict=True)}
    else:
        names = dict.fromkeys(tasks, a)
    read = results.load(folders, own)
    try:
        table = comparisons(read.cells, read.answers, names, b, tasks, budget)
    except UserError as error:
        if "match" in given and not set(read.cells.model) >= set(names.values()):
            commands = [f"python -m lra task={t} budget={budget} model={names[t]}" for t in tasks]
            raise UserError(f"{error} Run: {'; '.join(shlex.join(c.split()) for c in commands)}") from error
        raise
    print(shown(table, read))
    return 0


def asked(words: list[str]) -> tuple[tuple[str, str], dict[str, str], list[str]]:
    """The two models, what is said of them, and the other words but `--config-dir`."""
    given, rest = taken(split(words)[0], KEYS)
    plain = [word for word in rest if "=" not in word and not word.startswith("-")]
    rest = [word for word in rest if word not in plain]
    if len(plain) != 2:
        raise UserError(f"compare: {' '.join(plain) or 'nothing'}: allowed are two models, as in mine performer task=…")
    if not given.get("task"):
        raise UserError("task: is not said; allowed: one task or several, as task=listops,text")
    if given.get("match", "parameters") != "parameters":
        raise UserError(f"match: {given['match']!r} is not one of parameters")
    return (plain[0], plain[1]), given, rest


def shown(table: results.pd.DataFrame, read: results.Results) -> str:
    names = called([*table.a, *table.b])
    lines = [
        [
            r.row, names[r.a], names[r.b], f"{100 * r.difference:+z.1f} points",
            f"{100 * r.low:+z.1f} to {100 * r.high:+z.1f}", f"{r.p_holm:.2g}",
            f"{r.seeds_a} and {r.seeds_b}", f"{r.items:,}",
        ]
        for r in table.itertuples()
    ]  # fmt: skip
    out = [console.table(lines, HEAD)]
    cost = ratios(read.timed, read.points, table)
    if len(cost):
        rows = [
            [f"{names.get(r.a, r.a)} to {names.get(r.b, r.b)}, {r.where}", f"{r.speed:.2f}x", f"{r.memory:.2f}x",
             r.machine, r.how]
            for r in cost.itertuples()
        ]  # fmt: skip
        out += ["", console.table(rows, COSTS)]
    else:
        out += ["", "no machine has measured both; in turns: python -m lra sweep=cost model=A,B"]
    if (table.seeds_a == 1).any() or (table.seeds_b == 1).any():
        out.append("With one seed a difference is about the trained models, and not about how well they train.")
    return "\n".join(out)


if __name__ == "__main__":
    guarded(main, __doc__)
