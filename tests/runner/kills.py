"""Hundreds of kills of whole runs and sweeps, and what is left when the same command has been typed again.

    python -m tests.runner.kills FOLDER [COUNT [SEED]]

The named points of tests/runner/test_kills.py come first, each with every signal, before and after, and other models
each time; the rest are random moments of a run, of one that is measured, or of a sweep by two workers, sent to any one
process of it: sweep, keeper, guard, run, measuring child. Seeded; what was done is not done again (FOLDER/done.jsonl).
Processes are forked from one with its imports (tests/help/warm.py).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lra.machine.processes import below
from lra.record import store
from lra.settings.words import choices
from tests.help import tiny, warm
from tests.help.few import PIXELS
from tests.runner.test_kills import POINTS, SIGNALS, essence, whole

EACH = 20  # kills at each named point
MODELS = [m for m in choices("model") if m not in PIXELS]
FORMS = {  # what is started: words, and seconds that are enough for a start and a whole one
    "run": (["measure.enabled=false"], 2.5),
    "measured": (["measure.seconds=0.2"], 5.0),
    "sweep": (["-m", "seed=0,1", "workers=2", "measure.enabled=false"], 5.0),
}


@dataclass(frozen=True)
class Kill:
    number: int
    model: str
    signal: str
    form: str = "run"
    point: str = ""  # a name of POINTS, or none: at random
    moment: str = "before"
    wait: float = 0.0  # seconds
    victim: float = 0.0  # share of the way through all processes, oldest first


def plan(count: int, seed: int) -> list[Kill]:
    draw = random.Random(seed)
    turns = itertools.cycle(itertools.product(("before", "after"), SIGNALS))
    named = [(point, *next(turns)) for _ in range(EACH) for point in POINTS]
    kills = []
    for number in range(count):
        model = MODELS[number % len(MODELS)]
        if number < len(named):
            point, moment, name = named[number]
            kills.append(Kill(number, model, name, point=point, moment=moment))
            continue
        form = draw.choice(list(FORMS))
        kills.append(
            Kill(number, model, draw.choice(list(SIGNALS)), form, wait=draw.uniform(0.2, 1.0), victim=draw.random())
        )
    return kills


def words(folder: Path, model: str, *more: str) -> list[str]:
    rates = ["size.dropout=0.1", "size.attention_dropout=0.1", "data.parts=2"]
    return [*more, *tiny.words(folder, f"model={model}", *rates, "checkpoint_every=0", "threads=1")]


def started(folder: Path, model: str, *more: str, **env: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "lra", *words(folder, model, *more)]
    return warm.Asked(command, cwd=tiny.ROOT, env=tiny.environment(**env), **pipes)


def ended(process: subprocess.Popen[str]) -> str:
    """What it has said; it must have gone well."""
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return said


def good(folder: Path, model: str) -> dict[int, Any]:
    """Records that are ok, by seed."""
    records = [r for _, r in store.find(folder / "results") if (r.kind, r.model, r.status) == ("model", model, "ok")]
    found = {r.seed: r for r in records}
    assert len(found) == len(records), "doubled"
    return found


@cache
def expected(root: Path, model: str) -> dict[int, dict[str, Any]]:
    """Of runs that nobody has disturbed."""
    folder = root / "whole" / model
    ended(started(folder, model, *FORMS["sweep"][0]))
    return {seed: of(r, folder) for seed, r in good(folder, model).items()}


def of(record: Any, folder: Path) -> dict[str, Any]:
    """A sweep spells words in its own way."""
    return {k: v for k, v in essence(record, folder).items() if k != "command"}


def struck(folder: Path, kill: Kill) -> str:
    """Start what is to be killed, and kill it; what was hit."""
    form, enough = FORMS[kill.form]
    done = folder / "done"
    env = {}
    if kill.point:
        at = POINTS[kill.point]
        env = {
            "LRA_TEST_KILL": f"{at[0]}:{at[1]}:{at[2]}:{int(SIGNALS[kill.signal])}:{kill.moment}",
            "LRA_TEST_DONE": str(done),
        }
    process = started(folder, kill.model, *form, **env)
    hit, family = kill.point, []
    if not kill.point:
        time.sleep(kill.wait * enough)
        if process.poll() is None:
            family = [process.pid, *(p.pid for p in below(process.pid))]
            victim = int(kill.victim * len(family))
            hit = f"{victim + 1} of {len(family)} processes"
            try:
                os.kill(family[victim], SIGNALS[kill.signal])
            except ProcessLookupError:
                hit = "nobody: it had ended"
        else:
            hit = "nobody: it had ended"
    said = process.communicate(timeout=300)[1]
    assert not kill.point or done.exists(), f"never came there: {said}"
    assert "Traceback" not in said, said
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/exe").exists() for pid in family):
        assert time.monotonic() < end, "a process is left after 5 s"
        time.sleep(0.05)
    return hit


def finished(root: Path, folder: Path, kill: Kill) -> str:
    """The same command until it has its records; what was left of them by the first."""
    form = FORMS[kill.form][0]
    wanted = {seed: e for seed, e in expected(root, kill.model).items() if seed == 0 or kill.form == "sweep"}
    before = good(folder, kill.model)
    left = f"{len(before)} of {len(wanted)} records"
    if len(before) < len(wanted):
        ended(started(folder, kill.model, *form))
    found = good(folder, kill.model)
    assert set(found) == set(wanted), f"missing: {set(wanted) - set(found)}"
    for seed, r in found.items():
        assert of(r, folder) == wanted[seed], f"seed {seed} is another"
    ended(started(folder, "linear" if kill.model != "linear" else "local", "measure.enabled=false", "seed=7"))
    whole(folder)
    return left


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    count, seed = (int(word) for word in (*sys.argv[2:], "500", "0")[:2])
    os.environ["OMP_NUM_THREADS"] = "1"
    root.mkdir(parents=True, exist_ok=True)
    path = root / "done.jsonl"
    known = {json.loads(line)["number"] for line in path.read_text().splitlines()} if path.exists() else set()
    for kill in plan(count, seed):
        if kill.number in known:
            continue
        folder = root / str(kill.number)
        shutil.rmtree(folder, ignore_errors=True)
        wrong = None
        try:
            hit = struck(folder, kill)
            left = finished(root, folder, kill)
            shutil.rmtree(folder)
        except Exception as error:  # what is found is kept with its folder, and the next is tried
            hit, left, wrong = "", "", f"{type(error).__name__}: {error}"
        row = asdict(kill) | {"hit": hit, "left": left, "wrong": wrong}
        with path.open("a") as file:
            print(json.dumps(row), file=file, flush=True)
        print(
            kill.number,
            kill.model,
            kill.form,
            kill.point or "at random",
            kill.signal,
            hit,
            left,
            wrong or "",
            flush=True,
        )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    print(f"{len(rows)} kills, {sum(r['wrong'] is not None for r in rows)} went wrong")
    for name in ("signal", "form", "point"):
        print(name, dict(Counter(r[name] or "at random" for r in rows)))


if __name__ == "__main__":
    main()
