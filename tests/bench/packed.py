"""Inference of ragged batches, on one thread: real tokens a second with and without padding in what is pointwise.

    python -m tests.bench.packed task=listops
    python -m tests.bench.packed task=text task.max_len=1024 data_dir=../shared/data --batches 2 --model transformer

The same examples of the validation split go through one model in six ways, which take turns: in batches as they are
drawn, in parts of like length of each batch (as training takes them) and in batches sorted by length (as evaluation
does), each as it stands and with treatment=packed. Seconds are those of the processor, so that other work on the
machine disturbs little; what is printed is the median, and the median of the ratios to batches as drawn.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lra.machine.alone import Alone
from lra.settings import build, compose
from lra.train.batches import by_length
from lra.train.parts import cut_for
from lra.train.trainee import Trainee
from lra.treatments import after
from lra.treatments.packed import Packed

MODELS = ("transformer", "linear", "performer", "s4d")
ORDERS = ("drawn", "parts", "sorted")
WAYS = [(order, packed) for packed in (False, True) for order in ORDERS]


@dataclass
class Row:
    """One model. padding: the share of positions, by order; seconds: of each round, by way."""

    model: str
    tokens: int
    padding: dict[str, float]
    seconds: dict[tuple[str, bool], list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})

    def ratio(self, way: tuple[str, bool]) -> float:
        """How many times the rate of batches as drawn."""
        return statistics.median(a / b for a, b in zip(self.seconds[WAYS[0]], self.seconds[way], strict=True))


def orders(lengths: np.ndarray, size: int, cut: Any) -> dict[str, list[np.ndarray]]:
    """Places of examples (N,), by order and batch."""
    drawn = [np.arange(i, min(i + size, len(lengths))) for i in range(0, len(lengths), size)]
    parts = [batch[p] for batch in drawn for p in cut(lengths[batch])]
    return {"drawn": drawn, "parts": parts, "sorted": by_length(lengths, size)}


def measured(model: str, words: list[str], batches: int, rounds: int) -> Row:
    settings = compose.config([f"model={model}", "device=cpu", *words])
    exam = build.task(settings)
    torch.manual_seed(0)
    net = build.model(settings, exam)
    trainee = Trainee(net.eval(), exam, settings.train, Alone(torch.device("cpu"), "float32"))
    split, size = exam.split("valid"), settings.train.batch_size
    chosen = np.random.default_rng(0).permutation(len(split.lengths))[: batches * size]
    cut = cut_for(net, settings, "cpu", exam.documents)
    given = {
        order: [exam.collate([split[int(chosen[i])] for i in part]) for part in parts]
        for order, parts in orders(split.lengths[chosen], size, cut).items()
    }
    real = {order: sum(int(b.mask.sum()) for b in each) for order, each in given.items()}
    padding = {order: 1 - real[order] / sum(b.mask.numel() for b in each) for order, each in given.items()}
    row, draw = Row(model, real["drawn"], padding), random.Random(0)
    after(Packed(), trainee)
    for round in range(-1, rounds):
        for way in draw.sample(WAYS, len(WAYS)):
            seconds = timed(net, *way, given)
            if round >= 0:
                row.seconds[way].append(seconds)
    return row


@torch.no_grad()
def timed(net: Any, order: str, packed: bool, given: dict[str, list[Any]]) -> float:
    net.stack.packs = packed
    begin = time.process_time()
    for batch in given[order]:
        net(batch.tokens, batch.mask)
    return time.process_time() - begin


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown; rates in thousands of real tokens a second."""
    names = [f"packed, {order}" if packed else order for order, packed in WAYS]
    yield f"| model | {' | '.join(names)} |"
    yield f"|---{'|--:' * len(WAYS)}|"
    for row in rows:
        cells = (f"{row.tokens / statistics.median(s) / 1e3:.1f} ({row.ratio(w):.2f})" for w, s in row.seconds.items())
        yield f"| {row.model} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="of the command line")
    parser.add_argument("--model", action="append", help=f"instead of {', '.join(MODELS)}")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    rows = [measured(model, options.words, options.batches, options.rounds) for model in options.model or MODELS]
    print("\n".join(table(rows)))
    shares = ", ".join(f"{order} {100 * share:.0f} %" for order, share in rows[0].padding.items())
    print(f"\npadding: {shares}; {rows[0].tokens} real tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
