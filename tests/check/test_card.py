"""The audit catches what it is there to catch, each fault by its name, and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from lra.check import growth, sight
from lra.check.card import ask, points
from lra.check.contract import answer
from lra.check.divided import apart
from lra.check.subject import Finding, Subject
from lra.measure.gauges import slope
from lra.settings.compose import config
from tests.help.composed import settings
from tests.help.few import others_slow, sequence_models
from tests.help.tiny import ROOT, lra

LENGTH = 160
TINY = ["size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16"]


def planted(folder: Path, **entries: str) -> Path:
    """A config folder with model/planted.yaml, of whose model these are the parts."""
    (folder / "model").mkdir(exist_ok=True)
    lines = [f"  {part}: {{_target_: tests.help.faults.{name}, _partial_: true}}\n" for part, name in entries.items()]
    text = "# @package _global_\nmodel:\n" + "".join(lines) + "claims: {time: 1.0, memory: 1.0}\n"
    (folder / "model" / "planted.yaml").write_text(text)
    return folder


def audited(folder: Path) -> dict[str, Finding]:
    subject = Subject(config(["model=planted", *TINY], str(folder)), LENGTH)
    return {f.name: f for name, point in points().items() for f in ask(name, point, subject)}


@pytest.mark.parametrize(
    ("entries", "caught", "words", "also"),
    [
        ({"mixer": "PaddingLeak"}, "padding", "the answer moves by", {"parts"}),
        ({"mixer": "Unreached"}, "gradients", "stack.layers.0.mixer.forgotten.weight", set()),
        ({"mixer": "BatchCoupling"}, "batch", "companions", {"padding", "parts"}),
        ({"mixer": "Normed"}, "batch", "while training", {"padding"}),
        ({"stack": "OrderBlind", "mixer": "Unreached"}, "order", "blind to order", set()),
        ({"mixer": "Restless"}, "repeatable", "drawn anew", {"padding", "batch"}),
        ({"mixer": "Balanced"}, "parts", "another gradient", set()),
        ({"mixer": "Undefined"}, "finite", "0 tokens", set()),
        (
            {"mixer": "Cropped"},
            "shapes",
            "into (2, 0, 16)",
            {"finite", "gradients", "batch", "padding", "parts", "order", "reach"},
        ),
    ],
)
def test_planted_fault_is_caught_by_name(tmp_path: Path, entries: dict, caught: str, words: str, also: set) -> None:
    """`also`: what the fault breaks besides, companions being rows of another length, for instance."""
    findings = audited(planted(tmp_path, **entries))
    assert findings[caught].status == "fail"
    assert words in findings[caught].text
    assert {name for name, finding in findings.items() if finding.status == "fail"} - also == {caught}


@pytest.mark.parametrize(
    ("mixer", "says"),
    [("Declared", "Declared couples"), ("Normed", "BatchNorm1d couples"), ("Noisy", "torch's generator")],
)
def test_what_is_said_of_parts(tmp_path: Path, mixer: str, says: str) -> None:
    finding = ask(
        "parts",
        points()["parts"],
        Subject(config(["model=planted", *TINY], str(planted(tmp_path, mixer=mixer))), LENGTH),
    )
    assert [(f.status, says in f.text) for f in finding] == [("note", True)]


def test_dense_mask_is_caught_by_its_growth(tmp_path: Path) -> None:
    subject = Subject(config(["model=planted", "size.depth=1", *TINY], str(planted(tmp_path, mixer="DenseMask"))))
    time, memory = growth.growth(subject, lengths=(512, 1024, 2048))
    assert (time.name, time.status) == ("time growth", "fail")
    assert (memory.name, memory.status) == ("memory growth", "fail")
    assert memory.numbers["fitted"] > 1.7
    assert "claimed is L^1" in memory.text


@pytest.mark.slow  # test_contract says it of the same model
def test_a_window_in_blocks_passes_where_the_dense_one_fails() -> None:
    (memory,) = growth.growth(Subject(config(["model=local", *TINY])), lengths=(512, 1024, 2048), clock=False)
    assert memory.status == "ok", memory.text


def test_transformer_without_positions_is_flagged_and_not_failed() -> None:
    finding = sight.order(Subject(config(["model=transformer", "size.position=none", *TINY]), LENGTH))
    assert finding.status == "note"
    assert "blind to order" in finding.text


def test_reach_of_blocks_and_of_memory() -> None:
    """Known exactly: blocks of 64 never leave themselves; memory adds its length a layer, unlearnt."""
    local = sight.reach(Subject(config(["model=local", *TINY]), 256)).numbers["layers"]
    for depth in "124":
        for how in ("learns", "sees"):
            assert (local[depth][how]["max"], local[depth][how]["share"]) == (63, 0.25)
    options = ["model.mixer.segment=64", "model.mixer.memory=64"]
    recurrent = sight.reach(Subject(config(["model=transformer_xl", *options, *TINY]), 256)).numbers["layers"]
    assert [recurrent[d]["sees"]["max"] for d in "124"] == [127, 191, 255]
    assert all(recurrent[d]["learns"]["max"] == 63 for d in "124")


def test_an_exception_is_a_finding_of_one_line() -> None:
    def point(subject: Subject) -> Finding:
        raise RuntimeError("first\nsecond")

    (finding,) = ask("shapes", point, None)
    assert (finding.name, finding.status, finding.text[:28]) == ("shapes", "fail", "RuntimeError: first second (")
    assert finding.text.removeprefix("RuntimeError: first second (").startswith("test_card.py:")


@pytest.mark.parametrize(("power", "claim", "status"), [(2.0, 1.0, "fail"), (1.1, 1.0, "ok"), (2.0, 2.0, "ok")])
def test_judgement_of_exact_powers(power: float, claim: float, status: str) -> None:
    lengths = [512, 1024, 2048, 4096]
    costs = [3e-6 * n**power for n in lengths]
    assert slope(lengths, costs) == pytest.approx(power)
    bounds = growth.interval(lengths, [[c * 0.99, c, c * 1.01] for c in costs])
    assert bounds[0] < power < bounds[1]
    for what in ("time", "memory"):
        assert growth.judge(what, lengths, costs, bounds, {what: claim}).status == status
    assert growth.judge("time", lengths, costs, bounds, {}).status == "note"


def test_windows_not_yet_full_do_not_break_a_claim() -> None:
    """min(L, 1024) keys a query: steep at first, linear in the end, and judged by the end."""
    lengths = [512, 1024, 2048, 4096, 8192]
    costs = [n * (200 + min(n, 1024)) for n in lengths]
    finding = growth.judge("memory", lengths, costs, (1, 1), {"memory": 1.0})
    assert finding.numbers["overall"] > 1.1
    assert finding.status == "ok"


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return lra(*arguments, module="lra.check", cwd=cwd)


def test_command_line_of_a_broken_model_of_ones_own(tmp_path: Path) -> None:
    folder = planted(tmp_path, mixer="Hashed")
    card = tmp_path / "cards" / "card.json"
    options = ["--config-dir", str(folder), "--json", str(card), "--length", "64", "--only", "shapes,process"]
    done = run("model=planted", *TINY, *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "FAIL  process" in done.stdout
    assert "broken: process" in done.stdout
    assert done.stderr == ""
    written = json.loads(card.read_text())
    assert (written["model"], written["holds"]) == ("planted", False)
    assert [(f["name"], f["status"]) for f in written["findings"]] == [("shapes", "ok"), ("process", "fail")]
    assert written["config"]["size"]["dim"] == 16


def test_command_line_of_a_sound_model(tmp_path: Path) -> None:
    done = run("model=linear", f"output_dir={tmp_path}", *TINY, "--only", "padding")
    assert done.returncode == 0, done.stderr
    assert "nothing is broken of what was asked: padding" in done.stdout
    assert json.loads((tmp_path / "check" / "linear.padding.json").read_text())["holds"]


# The rest in tests/test_bad_input.py, in its process.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=linear", "--only", "paddin"], ["--only: 'paddin'", "padding"]),
        pytest.param(["model=linear", "size.dmi=3"], ["size.dmi", "size.dim"], marks=pytest.mark.slow),
        pytest.param(["model=linear", "--length", "1"], ["--length: 1"], marks=pytest.mark.slow),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", sequence_models())
def test_all_models_pass(model: str, tmp_path: Path) -> None:
    done = run(f"model={model}", f"output_dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_random_state_is_left_behind(tmp_path: Path) -> None:
    """Points build their own model and inputs: the order in which they are asked changes nothing."""
    subject = Subject(settings("model=performer", *TINY), 64)
    first = points()["padding"](subject)
    torch.manual_seed(5)
    points()["batch"](subject)
    assert points()["padding"](subject) == first


@pytest.mark.parametrize("model", others_slow(sequence_models()))
def test_every_state_has_a_digest(model: str) -> None:
    """Counters without a dimension are part of the state that another process must find again."""
    subject = Subject(settings(f"model={model}", *TINY), 64)
    assert answer(subject) == answer(subject)


def test_what_is_not_finite_is_infinitely_far_apart() -> None:
    whole, broken = torch.ones(3), torch.tensor([1.0, float("nan"), 1.0])
    assert apart(whole, broken) == apart(broken, whole) == apart(broken, broken) == float("inf")
    assert apart(whole, 2 * whole) == 0.5 and apart(whole, whole) == 0
