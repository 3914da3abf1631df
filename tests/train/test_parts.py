"""Parts of like length make the step of the whole batch: where it is cut, what reaches the model, the gradient."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from torch import Tensor, nn

from lra.machine.alone import Alone
from lra.machine.device import accelerator
from lra.settings import build, compose, identity, typed
from lra.tasks.base import Example
from lra.train.batches import Part, feed
from lra.train.fit import Fit, fit
from lra.train.parts import Cut, cheapest, couples, cut_for
from lra.train.trainee import Trainee
from tests.help import composed, tiny
from tests.help.few import FEW, others_slow, sequence_models

CPU = torch.device("cpu")
# Beyond a block, a window and a segment of every kind, and down to one token.
DRAWS = ["size.dropout=0.1", "size.attention_dropout=0.1"]
LENGTHS = [150, 1, 40, 149, 64, 65, 7, 150, 40]


def cost(parts: list[np.ndarray], lengths: np.ndarray, overhead: float) -> float:
    return sum(overhead + len(p) * lengths[p].max() for p in parts)


@tries(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=9),
    overhead=st.sampled_from([0.0, 5.0, 20.0, 70.5, 1e9]),
    most=st.integers(1, 9),
)
def test_the_cut_is_the_cheapest_of_all(lengths: list[int], overhead: float, most: int) -> None:
    """Against every way to cut."""
    longest = np.sort(lengths)[::-1]
    n = len(longest)
    ways = (ways for k in range(n) for ways in combinations(range(1, n), k))
    allowed = [w for w in ways if all(len(p) <= most for p in np.split(longest, w))]
    least = min(cost(np.split(np.arange(n), w), longest, overhead) for w in allowed)
    found = cheapest(longest, overhead, most)
    assert tuple(found) in allowed
    assert cost(np.split(np.arange(n), found), longest, overhead) == pytest.approx(least)


@tries(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=6, max_size=40),
    processes=st.integers(1, 4),
    least=st.integers(1, 3),
    count=st.none() | st.integers(1, 50),
    mixed=st.booleans(),
)
def test_the_parts_of_all_processes_are_the_batch(
    lengths: list[int], processes: int, least: int, count: int | None, mixed: bool
) -> None:
    given = np.array(lengths)
    cut = Cut(overhead=30.0, count=count, least=min(least, len(given) // processes), mixed=mixed)
    shares = [cut(given, rank, processes) for rank in range(processes)]
    assert sorted(np.concatenate([p for parts in shares for p in parts])) == list(range(len(given)))
    assert len({len(parts) for parts in shares}) == 1  # or one would wait for the others
    for parts in shares:
        assert all(len(p) for p in parts)
        share = sum(map(len, parts))
        if mixed:
            assert len(parts) == cut.least
            continue
        # Sorted, longest first; the size that memory allows, but for what does not divide.
        lined = given[np.concatenate(parts)]
        assert (np.diff(lined) <= 0).all()
        assert max(map(len, parts)) <= -(-share // cut.least) + 1
        if count is not None:
            assert len(parts) == min(len(given) // processes, max(count, cut.least))
            assert max(map(len, parts)) - min(map(len, parts)) <= 2
    # The longest go to different processes.
    if not mixed:
        assert max(given[parts[0]].max() for parts in shares) == given.max()
        heads = sorted((given[parts[0]].max() for parts in shares), reverse=True)
        assert heads == sorted(given, reverse=True)[:processes]


def test_equal_lengths_are_one_part_in_the_order_drawn() -> None:
    (part,) = Cut()(np.full(32, 784))
    assert part.tolist() == list(range(32))


class Mixed:
    """Items of given lengths, of one document or two; the other one of a pair is half as long."""

    def __init__(self, lengths: list[int], exam: Any) -> None:
        draw = np.random.default_rng(0)
        self.lengths, self.labels = np.array(lengths), draw.integers(0, exam.num_classes, len(lengths))
        self.items = []
        for n, label in zip(lengths, self.labels, strict=True):
            sizes = [n, (n + 1) // 2][: exam.documents]
            documents = tuple(draw.integers(1, exam.vocab_size, size) for size in sizes[:: 1 if n % 2 else -1])
            self.items.append(Example(documents, int(label)))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        return self.items[index]


def parts_of(exam: Any, split: Any, batch: np.ndarray, cut: Cut, *share: int) -> list[Part]:
    return next(feed(exam, split, [batch], cut, share or (0, 1), 0, False))


@pytest.mark.parametrize(("task", "axis"), [("listops", 1), ("retrieval_acl", 2)])
@pytest.mark.parametrize("pad", [("longest", None), ("longest", 16), ("max", None)])
def test_every_part_is_padded_to_its_own_longest(task: str, axis: int, pad: tuple[str, int | None]) -> None:
    words = [f"task={task}", "task.max_len=200", f"data.pad_to={pad[0]}", f"data.pad_multiple={pad[1] or 'null'}"]
    exam = build.task(composed.settings(*words))
    split, batch = Mixed(LENGTHS, exam), np.array([8, 3, 0, 6, 1, 7])
    cut = Cut(overhead=10.0)
    assert len(parts_of(exam, split, batch, cut)) > 2
    seen = []
    for rank in range(2):
        for part in parts_of(exam, split, batch, cut, rank, 2):
            longest = max(split.lengths[batch[i]] for i in part.examples)
            width = 200 if pad[0] == "max" else -(-longest // (pad[1] or 1)) * (pad[1] or 1)
            assert part.batch.tokens.shape[axis] == width and part.asked == len(part.examples)
            for row, place in enumerate(part.examples.tolist()):
                seen.append(place)
                tokens, mask = part.batch.tokens[row].view(-1, width), part.batch.mask[row].view(-1, width)
                for document, line, real in zip(split[batch[place]].documents, tokens, mask, strict=True):
                    assert line[real].tolist() == document.tolist()
                assert part.batch.labels[row] == split.labels[batch[place]]
    assert sorted(seen) == list(range(len(batch)))


@cache
def settings(model: str, task: str) -> Any:
    small = ["size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", *DRAWS]
    return composed.settings(f"task={task}", f"model={model}", "task.max_len=200", *small)


def sitting(model: str, task: str, dtype: str = "float32") -> tuple[Trainee, Mixed]:
    """A trainee at small sizes that draws as it may, its parameters moved so that no gate hides what is behind."""
    cfg = settings(model, task)
    exam = build.task(cfg)
    torch.manual_seed(0)
    net = build.model(cfg, exam).train()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    net = net.double() if dtype == "float64" else net
    return Trainee(net, exam, cfg.train, Alone(CPU, dtype), seed=3), Mixed(LENGTHS, exam)


def gradient(trainee: Trainee, parts: list[Part], whole: int) -> Tensor:
    """That of a step, as one vector in float64."""
    trainee.model.zero_grad()
    for part in parts:
        trainee.gradients(part, len(part.examples) / whole)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainee.model.parameters()]
    return torch.cat([g.flatten().double() for g in grads])


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def both(model: str, task: str, dtype: str) -> tuple[Tensor, Tensor]:
    """The gradient of parts, and that of the batch as it is drawn."""
    trainee, split = sitting(model, task, dtype)
    places = np.arange(len(split))
    parts = parts_of(trainee.exam, split, places, Cut(overhead=10.0))
    assert 3 <= len(parts) < len(split)
    drawn = Part(trainee.exam.collate([split[i] for i in places]), torch.arange(len(split)))
    return gradient(trainee, parts, len(split)), gradient(trainee, [drawn], len(split))


@pytest.mark.parametrize("model", others_slow(sequence_models()))
def test_the_gradient_is_that_of_the_whole_batch(model: str) -> None:
    assert apart(*both(model, "listops", "float64")) <= 1e-12


@pytest.mark.parametrize("model", others_slow(sequence_models(), ("transformer", "s4d", "gla")))
def test_the_gradient_is_that_of_the_whole_batch_in_few_bits(model: str) -> None:
    """In float32, and in bf16 no further from float64 than the whole batch's, but for what rounds by chance."""
    exact, single, half = (both(model, "listops", dtype) for dtype in ("float64", "float32", "bf16"))
    # mega_block's whole batch is itself 1.2e-6 off in float32, its parts 0.3e-6.
    assert min(apart(*single), apart(single[0], exact[1])) <= 1e-6
    assert apart(half[0], exact[1]) <= 1.1 * apart(half[1], exact[1])


@pytest.mark.parametrize("model", others_slow(sequence_models(), ("transformer", "reformer", "lstm")))
def test_the_gradient_of_pairs_is_too(model: str) -> None:
    assert apart(*both(model, "retrieval_acl", "float64")) <= 1e-12


@pytest.mark.parametrize("model", ["linear", "performer"])
def test_shares_add_up_over_processes(model: str) -> None:
    trainee, split = sitting(model, "listops", "float64")
    places = np.arange(len(split))
    (one,) = parts_of(trainee.exam, split, places, Cut(count=1))
    assert one.examples.tolist() != places.tolist()
    shares = [p for r in range(2) for p in parts_of(trainee.exam, split, places, Cut(overhead=10.0), r, 2)]
    assert len(shares) > 3
    assert apart(gradient(trainee, shares, len(split)), gradient(trainee, [one], len(split))) <= 1e-12


class Norm(nn.Module):
    """A mixer with a batch norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(x.mT).mT


class Sees(nn.Linear):
    """Says that it does."""

    couples_examples = True


class Says(nn.BatchNorm1d):
    """Says that it does not: frozen, say."""

    couples_examples = False


def test_what_couples_examples_is_found() -> None:
    assert couples(nn.Sequential(nn.Linear(2, 2), nn.Sequential(Norm(2)))) == "BatchNorm1d"
    assert couples(nn.Sequential(Sees(2, 2))) == "Sees"
    assert couples(nn.Sequential(Says(2), nn.LayerNorm(2), nn.Linear(2, 2))) is None


@pytest.mark.parametrize("model", others_slow(sequence_models(), FEW[:6]))
def test_no_model_couples_examples(model: str) -> None:
    assert couples(sitting(model, "listops")[0].model) is None


def test_the_number_of_parts_follows_from_settings_model_and_device() -> None:
    cfg, one = compose.config(["task=listops"]), nn.Linear(2, 2)
    lengths = np.array([128] * 2 + [8] * 30)

    def number(model: nn.Module = one, device: str = "cpu", **words: Any) -> tuple[int, bool]:
        given = replace(cfg, compile=words.pop("compile", False))
        given = replace(
            given, data=replace(cfg.data, parts=words.pop("parts", None)), train=replace(cfg.train, **words)
        )
        cut = cut_for(model, given, device)
        return len(cut(lengths)), cut.undivided is not None

    assert number() == (2, False)
    assert number(device="cuda") == number(compile=True) == (1, True)
    assert number(parts=5) == number(device="cuda", parts=5) == number(compile=True, parts=5) == (5, False)
    assert number(parts=100) == (32, False)
    # What memory asks for is kept to: 16 examples a part at most.
    assert number(accumulate=2) == (3, False) and number(accumulate=2, device="cuda") == (2, True)
    assert number(accumulate=8, parts=2) == (8, False)
    assert number(Norm(2)) == number(Norm(2), parts=4) == (1, True) and number(Norm(2), accumulate=2) == (2, True)
    (first, second) = cut_for(Norm(2), replace(cfg, train=replace(cfg.train, accumulate=2)), "cpu")(lengths)
    assert first.tolist() == list(range(0, 32, 2)) and second.tolist() == list(range(1, 32, 2))


def test_parts_are_no_other_run(tmp_path: Path) -> None:
    plain, asked = (tiny.config(tmp_path, *words) for words in ([], ["data.parts=3"]))
    assert identity.identity(typed.plain(plain)) == identity.identity(typed.plain(asked))
    old = typed.plain(plain)
    del old["data"]["parts"]  # a record of before
    before, now, other = (identity.conditions(c) for c in (old, typed.plain(plain), typed.plain(asked)))
    assert before == now != other


def trained(tmp_path: Path, *words: str) -> tuple[Tensor, Fit]:
    cfg = tiny.config(tmp_path, "train.warmup_steps=0", "size.dropout=0", "size.attention_dropout=0", *words)
    exam = build.task(cfg)
    torch.manual_seed(0)
    net = build.model(cfg, exam).double()
    out = fit(Trainee(net, exam, cfg.train, accelerator("cpu", "float32"), seed=cfg.seed), cfg)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), out


def test_training_in_parts_is_training(tmp_path: Path) -> None:
    """The same weights, of fewer positions; a run says how many parts there were."""
    one, whole = trained(tmp_path, "data.parts=1")
    found, out = trained(tmp_path, "data.parts=4")
    many, workers = trained(tmp_path, "data.parts=4", "data.workers=2")
    assert torch.allclose(one, found, rtol=1e-9, atol=1e-12) and torch.equal(found, many)
    assert (whole.parts, out.parts, out.steps_done) == (6, 24, 6)
    assert out.examples == whole.examples == 48 and out.tokens == whole.tokens == workers.tokens
    assert out.tokens <= out.positions < whole.positions
    free, cheap = trained(tmp_path)
    assert torch.allclose(one, free, rtol=1e-9, atol=1e-12)
    assert cheap.undivided is None and cheap.positions <= whole.positions
