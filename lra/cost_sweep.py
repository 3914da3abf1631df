"""`python -m lra sweep=cost`: every model at every length, each point in a fresh process.

Hydra's jobs, one for each model, only sign up (`enlist`). The callback `Points` then measures in
blocks: all models at one length take turns (`lra.turns`), and the lengths come in random order (the
seed's). So whatever drifts in the machine meanwhile falls on no model and no length in particular.
What is recorded is not measured again.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from lra.errors import UserError, refuse

if TYPE_CHECKING:
    from lra.cost_points import Bench, Point
    from lra.record import Record

MODELS: dict[str, Any] = {}  # label -> configuration, of this process's sweep
REFUSED: list[str] = []


def enlist(settings: Any) -> dict[str, Any]:
    """Note a model for `Points`; a bad option of one does not keep the others from being measured."""
    from lra import compose
    from lra.sweep import config_dir

    label = settings.runtime.choices.model
    try:
        cfg = compose.config(list(settings.overrides.task), config_dir(settings))
        MODELS[" ".join([label, *cfg.variant])] = cfg
    except UserError as error:
        REFUSED.append(f"{label}: {error}")
    return {"label": label}


class Points(Callback):
    """Measures what the jobs have enlisted and prints the table. Exit code 0 only if every point has
    a number or is known to exceed the memory or the time."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        MODELS.clear()
        REFUSED.clear()

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        # Hydra makes a warning of whatever error a callback raises; an exit it lets pass.
        try:
            good = conduct(MODELS) if MODELS else False
        except UserError as error:
            refuse(str(error))
        for line in REFUSED:
            print(line, file=sys.stderr)
        if REFUSED or not good:
            raise SystemExit(1)


def conduct(models: dict[str, Any]) -> bool:
    """Measure all points of `models` that no record holds. False if one has neither a number nor a
    reason to have none."""
    from lra import ceilings, record, report
    from lra.cost import load
    from lra.cost_points import FINAL, Bench
    from lra.cost_table import summary
    from lra.runner import say, writable

    cfg = next(iter(models.values()))
    writable("results_dir", Path(cfg.results_dir))
    bench = Bench(cfg)
    blocks = order(models, bench)
    begin, sweep, best = time.monotonic(), record.new_id()[1], None
    counts: Counter[str] = Counter()
    number, total = 0, sum(map(len, blocks))
    for block in blocks:
        points = [p for p in block if not bench.recorded(p)]
        if known := len(block) - len(points):
            counts["recorded before"] += known
            number += known
        if not points:
            continue
        if best is None:
            say("measuring what this machine can do at best")
            best = ceilings.fresh(bench.device, cfg.threads)
        say(f"{points[0].where}: {', '.join(p.label for p in points)}")
        for point, done in zip(points, bench.take(points, sweep=sweep, ceilings=best), strict=True):
            number += 1
            counts["refused" if isinstance(done, UserError) else done.status] += 1
            say(f"[{number}/{total}] {point}: {done if isinstance(done, UserError) else told(done)}")
    hashes = {r.config_hash for block in blocks for p in block if (r := bench.recorded(p))}
    table = load(cfg.results_dir)
    print(summary(table[table.config_hash.isin(hashes)]))
    spent = report.duration(time.monotonic() - begin)
    print(f"{total} points in {spent}: {', '.join(f'{n} {status}' for status, n in counts.items())}")
    return set(counts) <= {*FINAL, "recorded before"}


def told(r: Record) -> str:
    """What a point turned out to be, in a line."""
    from lra import report

    if r.status != "ok":
        return f"{r.status} ({r.reason})"
    train, peak = r.cost["train"], report.size(r.cost["step_peak_bytes"])
    size = f"batch {r.batch_size}, " if r.cost["mode"] == "largest" else ""
    quiet = ", on a disturbed machine" if r.cost["disturbed"] else ""
    return f"{size}{report.rate(1000 * train['seconds_median'])} ms a step, step peak {peak}{quiet}"


def order(models: dict[str, Any], bench: Bench) -> list[list[Point]]:
    """Blocks of one length in random order, in each the models in random order: first at the fixed
    batch, which tells how much memory an example takes, then at the largest."""
    from lra.cost_points import Point

    cfg = next(iter(models.values()))
    draw = random.Random(cfg.seed)
    lengths = sorted(set(cfg.cost.lengths))
    draw.shuffle(lengths)
    sizes = {"fixed": bench.batch_size, "largest": None}
    blocks = []
    for length in lengths:
        for mode, size in sizes.items():
            if mode in cfg.cost.modes and (mode == "fixed" or bench.limit is not None):
                block = [Point(model, label, length, mode, size) for label, model in sorted(models.items())]
                draw.shuffle(block)
                blocks.append(block)
    return blocks
