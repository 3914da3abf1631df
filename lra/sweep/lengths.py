"""`python -m lra sweep=cost`: every model at every length, each point in a fresh process.

Measured in blocks: all models at one length take turns (`lra.measure.turns`), and the lengths come in
random order (the seed's). So whatever drifts in the machine meanwhile falls on no model and no length in particular.
What is recorded is not measured again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from lra import ceilings, console, results
from lra.console import say
from lra.cost.table import as_table
from lra.errors import UserError
from lra.record import store
from lra.record.place import writable
from lra.record.record import Record
from lra.settings.schema import Settings
from lra.sweep.points import CONCLUDED, Bench, Point


def measured(models: dict[str, Settings]) -> bool:
    """Measure all points of `models` that no record holds. False if one has neither a number nor a
    reason to have none."""
    settings = next(iter(models.values()))
    writable("results_dir", Path(settings.results_dir))
    bench = Bench(settings)
    blocks = order(models, bench)
    begin, sweep, best = time.monotonic(), store.new_id()[1], None
    counts: Counter[str] = Counter()
    number, total = 0, sum(map(len, blocks))
    try:
        for block in blocks:
            points = [p for p in block if not bench.recorded(p)]
            if known := len(block) - len(points):
                counts["recorded before"] += known
                number += known
            if not points:
                continue
            if best is None:
                say("measuring what this machine can do at best")
                best = ceilings.fresh(bench.device, settings.threads)
            say(f"{points[0].where}: {', '.join(p.label for p in points)}")
            for point, done in zip(points, bench.take(points, sweep=sweep, ceilings=best), strict=True):
                number += 1
                counts["refused" if isinstance(done, UserError) else done.status] += 1
                say(f"[{number}/{total}] {point}: {done if isinstance(done, UserError) else told(done)}")
    except KeyboardInterrupt:
        if any(counts.values()):
            print(shown(blocks, bench, settings))
        raise
    print(shown(blocks, bench, settings))
    spent = console.duration(time.monotonic() - begin)
    print(f"{total} points in {spent}: {', '.join(f'{n} {status}' for status, n in counts.items())}")
    return set(counts) <= {*CONCLUDED, "recorded before"}


def shown(blocks: list[list[Point]], bench: Bench, settings: Settings) -> str:
    """The table of all points of a sweep that there are records of."""
    hashes = {r.config_hash for block in blocks for p in block if (r := bench.recorded(p))}
    table = results.load(settings.results_dir).points
    return as_table(table[table.config_hash.isin(hashes)])


def told(r: Record) -> str:
    """What a point turned out to be, in a line."""
    if r.status != "ok":
        return f"{r.status} ({r.reason})"
    train, peak = r.cost["train"], console.size(r.cost["step_peak_bytes"])
    size = f"batch {r.batch_size}, " if r.cost["mode"] == "largest" else ""
    quiet = ", on a disturbed machine" if r.cost["disturbed"] else ""
    return f"{size}{console.rate(1000 * train['seconds_median'])} ms a step, step peak {peak}{quiet}"


def order(models: dict[str, Settings], bench: Bench) -> list[list[Point]]:
    """Blocks of one length in random order, in each the models in random order: first at the fixed
    batch, which tells how much memory an example takes, then at the largest."""
    settings = next(iter(models.values()))
    draw = random.Random(settings.seed)
    lengths = sorted(set(settings.cost.lengths))
    draw.shuffle(lengths)
    sizes = {"fixed": bench.batch_size, "largest": None}
    blocks = []
    for length in lengths:
        for mode, size in sizes.items():
            if mode in settings.cost.modes and (mode == "fixed" or bench.limit is not None):
                block = [Point(model, label, length, mode, size) for label, model in sorted(models.items())]
                draw.shuffle(block)
                blocks.append(block)
    return blocks
