"""The loop: it learns, divides the batch without changing it, scores everything, stops at nonsense."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lra.machine.device import accelerator, seed_everything
from lra.settings.build import model, task
from lra.train.evaluate import evaluate
from lra.train.fit import Diverged, Fit, fit
from lra.train.trainee import Trainee
from tests.help import tiny

HERE = accelerator("cpu", "float32")


def trained(tmp_path: Path, *words: str) -> tuple[Any, Fit, Any, Any]:
    cfg = tiny.config(tmp_path, *words)
    exam = task(cfg)
    torch.manual_seed(cfg.seed)
    net = model(cfg, exam)
    return net, fit(trainee(net, exam, cfg), cfg), exam, cfg


def trainee(net: Any, exam: Any, cfg: Any) -> Trainee:
    return Trainee(net, exam, cfg.train, HERE)


def test_it_learns(tmp_path: Path) -> None:
    _, result, exam, _ = trained(
        tmp_path,
        "train.steps=300",
        "train.eval_every=100",
        "train.learning_rate=3e-3",
        "size.dim=32",
        "size.qkv_dim=32",
    )
    majority = np.bincount(exam.split("valid").labels).max() / 60
    assert result.best_accuracy > majority + 0.1
    assert result.curve[-1]["valid_loss"] < math.log(10)
    assert [c["step"] for c in result.curve] == [100, 200, 300]


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    net, result, exam, cfg = trained(tmp_path, "train.steps=60", "train.eval_every=5", "train.learning_rate=1e-2")
    assert result.best_accuracy == max(c["valid_accuracy"] for c in result.curve)
    first = next(c["step"] for c in result.curve if c["valid_accuracy"] == result.best_accuracy)
    assert result.best_step == first
    net.load_state_dict(result.best_state)
    assert evaluate(net, exam, "valid", cfg, HERE).accuracy == result.best_accuracy


@pytest.mark.parametrize(
    ("words", "more"),
    [
        pytest.param(["model=transformer"], ["train.eval_every=2"], marks=pytest.mark.slow),
        (["model=transformer"], ["train.eval_batch_size=3", "train.eval_every=1"]),
        (["model=reformer"], ["train.eval_every=2"]),  # draws a seed in every forward pass, of eval() too
        pytest.param(["model=sinkhorn"], ["train.eval_every=2"], marks=pytest.mark.slow),  # noise without dropout
        pytest.param(["model=performer", "model.mixer.redraw=2"], ["train.eval_every=1"], marks=pytest.mark.slow),
        (["model=transformer"], ["data.workers=2"]),  # a loader with workers draws the seed of each
    ],
)
def test_looking_changes_nothing(tmp_path: Path, words: list[str], more: list[str]) -> None:
    """Weights after training are the same to the bit however often valid is looked at, and by whom batches are made."""
    words = [*words, "size.dropout=0.1", "size.attention_dropout=0.1", "train.steps=6", "train.eval_every=6"]
    once, _, exam, cfg = trained(tmp_path, *words)
    other, *_ = trained(tmp_path, *words, *more)
    for (name, value), changed in zip(once.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, changed), name
    torch.manual_seed(99)  # nor does what was drawn before a look change what it finds
    assert evaluate(once, exam, "test", cfg, HERE).loss == evaluate(once, exam, "test", cfg, HERE).loss


class Drawing(torch.nn.Module):
    """A mixer that draws from every global stream, also in eval()."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.net(tokens, mask) * (1 + torch.rand(()) + np.random.rand() + random.random())


def test_a_look_leaves_every_random_stream_where_it_was(tmp_path: Path) -> None:
    net, _, exam, cfg = trained(tmp_path, "train.steps=1")
    seed_everything(5)
    first = evaluate(Drawing(net), exam, "valid", cfg, HERE)
    after = torch.rand(()), np.random.rand(), random.random()
    seed_everything(5)
    assert after == (torch.rand(()), np.random.rand(), random.random())
    assert evaluate(Drawing(net), exam, "valid", cfg, HERE).loss == first.loss


def test_parts_make_the_same_step(tmp_path: Path) -> None:
    """Accumulation keeps the global batch: same weights as one part, to rounding."""
    weights = []
    for parts in (1, 4):
        net, *_ = trained(tmp_path, f"train.accumulate={parts}", "train.warmup_steps=0", "size.attention_dropout=0")
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.allclose(*weights, atol=2e-4)


def test_evaluation_scores_every_item_in_order(tmp_path: Path) -> None:
    net, _, exam, cfg = trained(tmp_path)
    score = evaluate(net, exam, "test", cfg, HERE)
    split = exam.split("test")
    alone = []
    with torch.no_grad():
        for i in range(len(split)):
            batch = exam.collate([split[i]])
            alone.append(int(net.eval()(batch.tokens, batch.mask).argmax()))
    assert score.items == 60 and score.predictions.tolist() == alone
    assert score.accuracy == np.mean(np.array(alone) == split.labels)


@pytest.mark.parametrize("words", [("train.learning_rate=1e30",), ("train.learning_rate=50", "train.diverged_at=1.5")])
def test_nonsense_ends_the_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(Diverged, match="at step"):
        trained(tmp_path, *words, "train.steps=60", "train.eval_every=60", "train.warmup_steps=0")


def test_the_clock_does_not_see_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from lra.train import fit as loop

    real = loop.evaluate

    def slow(*args: Any) -> Any:
        time.sleep(0.5)
        return real(*args)

    monkeypatch.setattr(loop, "evaluate", slow)
    begin = time.perf_counter()
    _, result, *_ = trained(tmp_path, "train.steps=4", "train.eval_every=1")
    assert result.seconds <= time.perf_counter() - begin - 4 * 0.5


@pytest.mark.slow
def test_overhead_is_at_most_five_percent(tmp_path: Path) -> None:
    """Against a bare loop with the same model and batches, interleaved, median of CPU time."""
    import time
    from itertools import islice

    import torch.nn.functional as F

    from lra.train.batches import stream
    from lra.train.optim import learning_rate, optimizer, set_learning_rate

    words = ("train.steps=30", "train.eval_every=1000000", "train.batch_size=32", "task.max_len=128")
    cfg = tiny.config(tmp_path, *words, "task.min_length=8", "size.dim=64", "size.qkv_dim=64", "size.mlp_dim=128")
    exam = task(cfg)
    exam.split("valid")
    valid = SimpleNamespace(accuracy=0.0, loss=0.0, items=0, predictions=None)
    split, times = exam.split("train"), {"ours": [], "bare": []}

    def bare() -> None:
        net = model(cfg, exam).train()
        opt = optimizer(net, cfg.train)
        for step, index in enumerate(islice(stream(split.lengths, 32, cfg.seed), 30)):
            batch = exam.collate([split[int(i)] for i in index])
            set_learning_rate(opt, learning_rate(step, cfg.train))
            F.cross_entropy(net(batch.tokens, batch.mask), batch.labels).backward()
            opt.step()
            opt.zero_grad()

    def ours() -> None:
        from lra.train import fit as loop

        loop.evaluate, kept = (lambda *_: valid), loop.evaluate
        try:
            fit(trainee(model(cfg, exam), exam, cfg), cfg)
        finally:
            loop.evaluate = kept

    for turn in range(9):
        for name, run in (("ours", ours), ("bare", bare)):
            begin = time.process_time()
            run()
            if turn:
                times[name].append(time.process_time() - begin)
    ratios = np.array(times["ours"]) / np.array(times["bare"])
    print(f"loop / bare loop: median {np.median(ratios):.3f}, all {np.round(ratios, 3)}")
    assert np.median(ratios) <= 1.05
