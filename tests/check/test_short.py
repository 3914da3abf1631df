"""The short contract, before every training: what it finds, that it moves nothing, where it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lra.check import short
from lra.check.readout import blind
from lra.check.short import verdict
from lra.leaderboard import csv, latex, markdown, terminal
from lra.leaderboard.view import boards
from lra.record import store
from lra.record.record import SCHEMA
from lra.results import load
from lra.runner.run import recorded
from lra.settings import build, compose
from tests.help import composed, tiny
from tests.help.few import others_slow, sequence_models
from tests.help.made import example

SHORT = ["task.max_len=40", "task.min_length=3", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16"]


def mixer(name: str) -> dict[str, Any]:
    return {"_target_": f"tests.help.faults.{name}", "_partial_": True}


def asked(*words: str, mixer_of: str | None = None, **model: Any) -> dict[str, Any]:
    settings = composed.settings(*words)
    node = {**settings.model, **model}
    if mixer_of is not None:
        node["mixer"] = mixer(mixer_of)
    settings = replace(settings, model=node)
    return verdict(settings, build.task(settings), "cpu")


@pytest.mark.parametrize("model", sequence_models())
def test_every_model_of_ours_keeps_it_and_sees_all(model: str) -> None:
    keeps_it(model, "listops")


@pytest.mark.parametrize("model", others_slow(sequence_models(), {"transformer", "reformer", "local", "s4d", "mega"}))
def test_and_with_two_documents(model: str) -> None:
    keeps_it(model, "retrieval_acl")


def keeps_it(model: str, task: str) -> None:
    found = asked(f"task={task}", f"model={model}", "task.max_len=130", *SHORT[2:])
    assert not found["broken"] and not found["unchecked"] and found["blind"] == 0.0


@pytest.mark.parametrize(
    ("fault", "point", "says"),
    [
        ("PaddingLeak", "padding", "padding more move an answer by"),
        ("BatchCoupling", "batch", "the other examples of the batch move an answer by"),
        ("Normed", "batch", "while training"),
        ("Restless", "repeatable", "two calls in eval() differ"),
        ("Cropped", "repeatable", "Error"),
        ("Balanced", "parts", "another gradient"),
    ],
)
@pytest.mark.parametrize("task", ["listops", "retrieval_acl"])
def test_a_fault_is_found(fault: str, point: str, says: str, task: str) -> None:
    found = asked(f"task={task}", "model=transformer", "task.max_len=41", *SHORT[2:], mixer_of=fault)
    assert says in found["broken"][point], found


def test_batchnorm_breaks_it_as_expected() -> None:
    words = ["task=listops", "model=s4d_block", "+model.stack.batchnorm=true", "task.max_len=41"]
    found = asked(*words, *SHORT[2:])["broken"]
    assert list(found) == ["batch"] and found["batch"].endswith("as is to be expected of BatchNorm")


@pytest.mark.parametrize("mixer_of", ["Declared", "Noisy"])
def test_what_is_said_or_drawn_is_no_fault(mixer_of: str) -> None:
    assert not asked("task=listops", "model=transformer", "task.max_len=41", *SHORT[2:], mixer_of=mixer_of)["broken"]


@pytest.mark.parametrize(
    ("words", "share"),
    [
        # A CLS vector and 63 tokens are the first block; of two documents each has one.
        (["model=local", "task=listops", "task.max_len=200"], (200 - 63) / 200),
        (["model=local", "task=retrieval_acl", "task.max_len=200"], (200 - 63) / 200),
        (["model=transformer_xl", "task=listops", "task.max_len=200", "model.mixer.segment=50"], (200 - 49) / 200),
        (["model=local", "task=listops", "task.max_len=64"], 1 / 64),
        (["model=transformer", "task=listops", "task.max_len=200"], 0.0),
        (["model=reformer", "task=listops", "task.max_len=200"], 0.0),
    ],
)
def test_blindness_is_that_of_the_readout(words: list[str], share: float) -> None:
    assert asked(*words, *SHORT[2:], pooling="cls")["blind"] == pytest.approx(share, abs=1e-6)


class Window(torch.nn.Module):
    """Reads tokens 3 to 10, and remembers token 20 without a gradient. Knows no torch embedding."""

    def __init__(self, embedded: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(30, 4) if embedded else torch.nn.Parameter(torch.randn(30, 4))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens) if isinstance(self.table, torch.nn.Embedding) else self.table[tokens]
        return x[:, 3:11].sum(1) + x[:, 20].detach()


@pytest.mark.parametrize("embedded", [True, False])
def test_a_memory_without_a_gradient_counts_as_seen(embedded: bool) -> None:
    task = build.task(compose.config(["task=listops", "task.max_len=32", *SHORT[2:]]))
    torch.manual_seed(3)
    one = task.synthetic(1)
    unseen = blind(Window(embedded), one, 30)
    seen = set((~unseen).nonzero().flatten().tolist())
    assert {*range(3, 11), 20} <= seen
    # By value alone positions are tried in pieces, of 2 here.
    assert seen <= {*range(2, 12), 20, 21} and not (embedded and seen - {*range(3, 11), 20, 21})


def test_it_draws_nothing_from_the_runs_streams(tmp_path: Path) -> None:
    settings = compose.config(tiny.words(tmp_path, "model=sinkhorn"))
    torch.manual_seed(7)
    verdict(settings, build.task(settings), "cpu")
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))


def test_a_run_that_breaks_it_is_recorded_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = compose.config(tiny.words(tmp_path, "model=transformer", "measure.enabled=false"))
    leaky = replace(settings, model={**settings.model, "mixer": mixer("PaddingLeak")})
    record = recorded(leaky)
    assert record.status == "ok" and list(record.contract["broken"]) == ["padding", "parts"]
    assert "the contract is broken (padding)" in capsys.readouterr().err
    whole = {"broken": {}, "blind": 0.0}
    sound = replace(record, run_id=f"{record.run_id}0", model="sound", contract=whole, predictions=None, digest=None)
    store.write(tmp_path / "results", sound)
    shown = boards(load(tmp_path / "results"))
    text = markdown.render(shown)
    rows = [line for line in text.splitlines() if line.startswith("| transformer ")]
    assert "‡" in rows[0] and "‡ breaks the contract of models" in text
    assert "‡" not in next(line for line in text.splitlines() if line.startswith("| sound "))
    assert "‡" in terminal.render(shown, 100) and r"$^\ddagger$" in latex.render(shown)
    assert "padding more move an answer" in csv.render(shown)


def test_a_blind_row_is_marked_and_a_departure_told(tmp_path: Path) -> None:
    size, own = {"pooling": "cls", "dim": 8}, {"pooling": "mean", "dim": 8}
    made = example(
        accuracy_test=0.5, items_test=100, contract={"broken": {}, "blind": 0.75}, config={"size": size, "model": own}
    )
    store.write(tmp_path, made)
    text = terminal.render(boards(load(tmp_path)), 200)
    assert "50.0±" in text and "§" in text
    assert "§ positions that cannot move an answer, as the model is read out: performer on ListOps 75.0 %." in text
    assert "performer has pooling mean, not cls (ListOps)" in text
    raw = json.loads(next((tmp_path / "runs").rglob("*.json")).read_text())
    assert raw["schema"] == SCHEMA and raw["contract"]["blind"] == 0.75


@pytest.mark.parametrize("model", others_slow(sequence_models()))
def test_at_paper_every_position_can_move_the_answer(model: str) -> None:
    """At the paper's pooling and depth, small in all that blindness does not depend on."""
    words = ["task=listops", f"model={model}", "budget=paper", *SHORT[2:], "size.heads=2", "task.max_len=1100"]
    settings = composed.settings(*words)
    exam = build.task(settings)
    unseen = blind(build.model(settings, exam), exam.synthetic(1), exam.vocab_size)
    assert not unseen.any(), f"{model}, pooling {settings.model['pooling']}: blind from {unseen.nonzero()[0]}"


def test_a_row_made_before_its_model_changed_says_so(tmp_path: Path) -> None:
    now = compose.config(["model=sinkhorn"]).revision.model
    assert now > 1
    for number, seed in ((now - 1, 0), (now, 1)):
        config = {"revision": {"model": number, "task": 1}, "marked": seed}
        store.write(tmp_path, example(model="sinkhorn", accuracy_test=0.5, items_test=100, seed=seed, config=config))
        text = " ".join(terminal.render(boards(load(tmp_path)), 200).split())
        assert (f"sinkhorn, revision {now - 1} of the model, now {now} (ListOps)" in text) == (number < now)
    assert load(tmp_path).runs.stale.notna().sum() == 1


def test_a_gradient_that_is_all_of_companions_is_a_number() -> None:
    """None of its own to compare with: infinite is nothing that a record could hold."""
    found = short._crossing([torch.tensor([[0.0], [1.0]])], torch.zeros(2, 1, dtype=torch.int64))
    assert 1 < found < float("inf")
    assert short._crossing([torch.tensor([[1.0], [0.0]])], torch.zeros(2, 1, dtype=torch.int64)) == 0


def test_an_exam_by_distance_asks_how_far_back_an_answer_sees() -> None:
    """Exactly, of windows and blocks; a memory that keeps no gradient counts by its values."""
    words = ["task=needle", "task.max_len=64", *SHORT[2:]]
    assert seen(*words, "model=window5") == {1: 1.0, 2: 0.5, 4: 0.0, 8: 0.0, 16: 0.0, 32: 0.0}
    assert set(seen(*words, "model=identity").values()) == {0.0}
    assert set(seen(*words, "model=transformer").values()) == {1.0}
    far = seen(*words, "model=local", "model.mixer.block=16")
    places = [round(i * 63 / 7) for i in range(8)]
    for first, share in far.items():
        pairs = [(p, p - d) for p in places for d in range(first, 2 * first) if p - d >= 0]
        assert share == pytest.approx(sum(p // 16 == q // 16 for p, q in pairs) / len(pairs))
    memory = seen(*words, "model=transformer_xl", "model.mixer.segment=8", "model.mixer.memory=8", "size.depth=1")
    assert memory[8] > 0.3 and memory[16] < 0.02 and not memory[32], "the segment before is seen, to a piece"
    assert asked("task=listops", "task.max_len=24", *SHORT[1:])["reach"] is None


def seen(*words: str) -> dict[int, float]:
    return {each["distance"]: each["share"] for each in asked(*words)["reach"]}
