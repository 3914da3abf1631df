"""Training of this tree against that of another, say of an older commit: real tokens a second, on one thread.

    git worktree add ../old 4e35b46
    python -m tests.bench.rates ../old task=listops                    every model of the other tree
    python -m tests.bench.rates ../old task=listops --model sparse --rounds 21
    python -m tests.bench.rates ../old --full task=text task.max_len=1024 measure.batch_size=4 \\
        size.attention_dropout=0.1 --theirs size.attention_dropout=0.0

What is timed is `fit` itself: loader, parts, optimizer and the look at the loss, but no evaluation. With --full it
is the step that is measured before a run, on a batch of full length, and its peak of memory. Each tree lives in a
process of its own; the two take turns of a few steps on the same batches. Seconds are those of the processor, so
that other work on the machine disturbs little; of the turns the median is printed, and of the rates the median of
their ratios.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve()
# Without an end in reach: an evaluation stands there.
ENDLESS = ["train.steps=1000000", "train.eval_every=1000000", "train.diverged_at=1e9", "measure.warmup_steps=2"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "KINETO_LOG_LEVEL": "5"}
# How much memory glibc gives back and takes anew at each step, two to six thousand pages, depends on where a process
# lies: up to a seventh of a light model's step, and not what either tree does. Here it keeps what it has.
ENVIRONMENT |= {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_MAX_": "0"}


@dataclass(frozen=True)
class Turn:
    """Some steps of one side: seconds of the processor, and real tokens."""

    seconds: float
    tokens: float


@dataclass(frozen=True)
class Row:
    """One model. Turns of both sides, on the same batches, and bytes of the step peak (0: not measured)."""

    model: str
    theirs: list[Turn]
    ours: list[Turn]
    bytes: tuple[int, int]

    @property
    def ratio(self) -> float:
        """How many times theirs our rate is."""
        pairs = zip(self.theirs, self.ours, strict=True)
        return statistics.median(a.seconds / a.tokens * b.tokens / b.seconds for a, b in pairs)


def serve(full: bool, words: list[str]) -> None:
    """The timed process, in the tree that Python's path names: for each number of steps that it reads, what those
    took."""
    import torch

    torch.set_num_threads(1)
    left, start, before = 0, 0.0, 0

    def stepped(tokens: int) -> None:
        """A step is over, and all up to it have had so many tokens: wait for the next turn if this one is."""
        nonlocal left, start, before
        left -= 1
        if left > 0:
            return
        print(time.process_time() - start, tokens - before, flush=True)
        left = int(sys.stdin.readline() or 0)
        if not left:
            os._exit(0)
        start, before = time.process_time(), tokens

    (measured if full else trained)(words, stepped)


def trained(words: list[str], stepped: Callable[[int], None]) -> None:
    """`fit`, which tells after each step."""
    from lra.machine import __file__ as machine

    def tell(**_: object) -> None:
        stepped(out.tokens)

    if Path(machine).name == "machine.py":  # before the rooms
        from lra import compose
        from lra.machine import seed_everything
        from lra.train import Fit, accelerator, fit

        out, settings = Fit(), compose.config(words)
        exam = compose.task(settings)
        seed_everything(settings.seed)
        fit(compose.model(settings, exam), exam, settings, accelerator(settings), tell, out)
    else:
        from lra.machine.device import accelerator, seed_everything
        from lra.settings import build, compose
        from lra.train.fit import Fit, fit
        from lra.train.trainee import Trainee

        out, settings = Fit(), compose.config(words)
        exam = build.task(settings)
        seed_everything(settings.seed)
        model = build.model(settings, exam)
        fit(
            Trainee(model, exam, settings.train, accelerator("cpu", "float32"), False, settings.seed),
            settings,
            tell,
            out,
        )


def measured(words: list[str], stepped: Callable[[int], None]) -> None:
    """Steps of full length. First of all, as tokens: the step peak."""
    from lra.machine import __file__ as machine

    if Path(machine).name == "machine.py":
        from lra import compose
        from lra.measure import Measurement

        bench = Measurement(compose.plain(compose.config(words)), os.getppid(), math.inf)
        step, peak, batch = bench.phases["train"], bench.result["step_peak_bytes"], bench.sizes[1]
    else:
        from lra.measure.child import prepared, warmed
        from lra.settings import compose

        bench = prepared(compose.config(words))
        warmed(bench, math.inf)
        step, peak = bench.step, bench.cost.step_peak_bytes
        batch = sum(part.batch.tokens.numel() for part in bench.parts)
        bench.trainee.model.train()
    stepped(peak)
    done = peak
    while True:
        step()
        done += batch
        stepped(done)


@contextmanager
def side(tree: Path, full: bool, words: list[str]) -> Iterator[Callable[[int], Turn]]:
    """A process that takes turns: called with a number of steps, it says what they were."""
    command = [sys.executable, str(HERE), "serve", "--full" if full else "--", *words]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(tree)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, cwd=tree, env=environment, **pipes) as process:

        def answer() -> Turn:
            while line := process.stdout.readline():
                try:
                    return Turn(*map(float, line.split()))
                except (TypeError, ValueError):
                    continue  # something that a library had to say
            raise RuntimeError(f"{tree}: {' '.join(words)}: no answer")

        def turn(steps: int) -> Turn:
            process.stdin.write(f"{steps}\n")
            return answer()

        turn.first = answer()
        try:
            yield turn
        finally:
            process.stdin.close()


def compare(other: Path, model: str, words: list[str], theirs: list[str], full: bool, rounds: int, steps: int) -> Row:
    """Both sides on one model."""
    tree = HERE.parents[2]
    common = [f"model={model}", "threads=1", "device=cpu", *ENDLESS, *words]
    with side(other, full, [*common, *theirs]) as a, side(tree, full, common) as b:
        sides, turns = (a, b), ([], [])
        for each in sides:
            each(steps)  # cold
        for _ in range(rounds):
            for each, taken in zip(sides, turns, strict=True):
                taken.append(each(steps))
        return Row(model, *turns, (int(a.first.tokens), int(b.first.tokens)) if full else (0, 0))


def table(rows: list[Row], full: bool) -> str:
    """Markdown; rates in thousands of real tokens a second."""
    lines = ["| model | theirs | ours | ratio |", "|---|--:|--:|--:|"]
    if full:
        lines = ["| model | their ms | our ms | time | their MiB | our MiB | memory |", "|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        sides = row.theirs, row.ours
        if full:
            (a, b), (x, y) = (statistics.median(t.seconds for t in side) * 1e3 for side in sides), row.bytes
            lines.append(
                f"| {row.model} | {a:.1f} | {b:.1f} | {1 / row.ratio:.2f} | {x / 2**20:.1f} | {y / 2**20:.1f} "
                f"| {y / x:.2f} |"
            )
            continue
        a, b = (statistics.median(t.tokens / t.seconds for t in side) / 1e3 for side in sides)
        lines.append(f"| {row.model} | {a:.1f} | {b:.1f} | {row.ratio:.2f} |")
    return "\n".join(lines)


def models(tree: Path) -> list[str]:
    return sorted(path.stem for path in (tree / "configs" / "model").glob("*.yaml"))


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2] == "--full", sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout to compare with")
    parser.add_argument("words", nargs="*", help="of the command line, for both")
    parser.add_argument("--theirs", action="append", default=[], help="one more word for the other side")
    parser.add_argument("--model", action="append", help="instead of all that the other side has")
    parser.add_argument("--full", action="store_true", help="measured steps on batches of full length")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="in a turn")
    options = parser.parse_intermixed_args()
    rows = []
    for model in options.model or models(options.other):
        how = options.words, options.theirs, options.full, options.rounds, options.steps
        rows.append(compare(options.other.resolve(), model, *how))
        print(table(rows[-1:], options.full).splitlines()[-1], file=sys.stderr, flush=True)
    ratios = [row.ratio for row in rows]
    print(table(rows, options.full))
    mean = statistics.geometric_mean(ratios)
    print(f"\n{'time' if options.full else 'rate'}: geometric mean {mean if not options.full else 1 / mean:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
