"""The command in a record is that of the record, and what a repetition says of it is so."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lra.errors import UserError
from lra.machine import facts
from lra.record import record, store
from lra.repeat import agree, asked, code, older
from lra.runner.elsewhere import spoken
from lra.settings import again, compose, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain
from tests.help import tiny

HERE = {"device": "cpu", "dtype": "float32", "threads": 2}
TYPED = (
    ["task=shift", "model=gla", "size.dim=32", "seed=3", "data.bucket=true", "++model.mixer.rank=8", "threads=1"],
    ["task=listops", "model=performer", "name='a b, c'", "train.betas=[0.9,0.98]", "run.timeout=90", "measure.steps=4"],
    ["task=image", "budget=published", "model=s4d_block", "task.path=/far/away", "rerun=all", "results_dir=/x"],
)


def words_of(command: str) -> list[str]:
    start, words = shlex.split(command)[:3], shlex.split(command)[3:]
    assert start == ["python", "-m", "lra"]
    return words


def same(a: Settings, b: Settings) -> bool:
    ours, theirs = ([identity.identity(p), identity.conditions(p)] for p in (plain(a), plain(b)))
    return ours == theirs and a.seed == b.seed and a.name == b.name and a.run == b.run


@pytest.mark.parametrize("typed", TYPED, ids=lambda words: words[0])
def test_the_command_composes_to_the_same_run(typed: list[str]) -> None:
    settings = compose.config(typed)
    command = again.command(settings, HERE)
    repeated = compose.config(words_of(command))
    assert same(replace(repeated, **{key: getattr(settings, key) for key in HERE}), settings)
    assert (repeated.threads, repeated.dtype, repeated.device) == (2, "float32", "cpu")
    assert "/" not in command and "rerun" not in command
    assert again.command(repeated, HERE) == command


def test_minutes_are_repeated_by_their_steps() -> None:
    settings = compose.config(["task=listops", "model=linear", "budget=race", "train.core_minutes=2"])
    repeated = compose.config(words_of(again.command(settings, HERE, steps=70)))
    known = replace(settings, train=replace(settings.train, steps=70, core_minutes=None))
    assert identity.identity(plain(repeated)) == identity.identity(plain(known))


def test_a_folder_of_ones_own_is_named_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    text = "# @package _global_\nmodel:\n  mixer: {_target_: lra.models.linear.LinearAttention, _partial_: true}\n"
    (tmp_path / "mine" / "model" / "own.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    command = again.command(compose.config(["model=own"], "mine"), HERE)
    assert command.startswith("python -m lra --config-dir=mine task=listops model=own budget=quick")


def test_a_class_that_was_handed_over_is_called() -> None:
    handed = (again.HANDED + "x1", "--config-dir=mine", "task=listops", "model=own", "budget=quick", "size.dim=8")
    node = {"mixer": {"_target_": "my.own.Mixer", "_partial_": True, "gain": 2.0}}
    settings = Settings(words=handed, model=node)
    settings = replace(settings, choices=replace(settings.choices, model="own"))
    program, flag, text = shlex.split(again.command(settings, {"threads": 1}))
    said = []
    fake = {"lra": type("lra", (), {"run": lambda *words, **more: said.append((words, more))})}
    monkey = text.partition("; ")[2].replace("functools.partial", "partial").replace("my.own.Mixer", "Mixer")
    exec(monkey, fake | {"partial": lambda *a, **k: (a, k), "Mixer": "Mixer"})
    assert (program, flag) == ("python", "-c") and text.startswith("import functools, lra, my.own; ")
    ((words, more),) = said
    assert words == ("task=listops", "budget=quick", "size.dim=8", "seed=0", "threads=1")
    assert more == {"mixer": (("Mixer",), {"gain": 2.0}), "name": "own", "config_dir": "mine"}


def made(**more: Any) -> record.Record:
    facts_ = {
        "run_id": "20260101T000000Z-ab", "started_utc": "2026-01-01T00:00:00+00:00", "kind": "model", "status": "ok",
        "task": "listops", "model": "linear", "budget": "quick", "row": "listops-24", "seed": 7, "config": {},
        "config_hash": "0" * 16, "accuracy_test": 0.5, "items_test": 60, "loss_test": 1.25, "parameters": 9,
        "data": {"fingerprint": "f"}, "machine": {"device": "cpu", "name": "A", "threads": 1, "processes": 1},
        "versions": {"torch": "2", "numpy": "2", "accelerate": "1"}, "dtype": "float32",
        "curve": [{"step": 3, "valid_accuracy": 0.25, "valid_loss": 2.0, "seconds": 1.0, "core_seconds": 1.0}],
        "score": {"test": 0.5, "reached": [{"score": 0.9, "sequences": 8, "core_seconds": 2.0}]},
        "predictions": {"file": "a.npz", "sha256": "s", "items": 60},
    }  # fmt: skip
    return record.Record(**facts_ | more)


OTHERWISE: dict[str, dict[str, Any]] = {
    "accuracy test": {"accuracy_test": 0.5 + 2**-40},
    "curve of 1 points": {"curve": [{"step": 3, "valid_accuracy": 0.25, "valid_loss": 2.1, "seconds": 1.0}]},
    "answers": {"predictions": {"file": "b.npz", "sha256": "t", "items": 60}},
    "score": {"score": {"test": 0.5, "reached": [{"score": 0.9, "sequences": 9, "core_seconds": 2.0}]}},
    "status": {"status": "diverged"},
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_learnt_agrees_under_like_conditions_alone(name: str) -> None:
    old, new = made(), made(**OTHERWISE[name])
    found = agree.Findings.of(old, new)
    assert found.wrong == [name] and not found.good
    far = replace(new, machine=new.machine | {"threads": 2})
    found = agree.Findings.of(old, far)
    assert found.other == [name] and found.good and found.reasons == ["threads 1 -> 2"]


def test_times_and_names_are_no_part_of_what_agrees() -> None:
    later = [{"step": 3, "valid_accuracy": 0.25, "valid_loss": 2.0, "seconds": 9.0, "core_seconds": 8.0, "new": 1}]
    score = {"test": 0.5, "reached": [{"score": 0.9, "sequences": 8, "core_seconds": 4.0}], "new": 1}
    new = made(run_id="20270101T000000Z-cd", curve=later, score=score, predictions={"file": "b.npz", "sha256": "s"})
    found = agree.Findings.of(made(), new)
    assert found.good and not found.each and {"data", "accuracy test", "answers", "score"} <= set(found.same)
    assert "all agrees that should" in list(found.lines())


def test_other_data_and_sizes_agree_on_no_machine() -> None:
    """What does not hang on rounding should agree whatever the machine."""
    new = made(data={"fingerprint": "g"}, parameters=8, machine={"device": "cpu", "name": "B", "threads": 1})
    found = agree.Findings.of(made(), new)
    assert found.wrong == ["data", "parameters"] and "processor A -> B" in found.reasons


def test_a_record_without_a_command_gets_its_own() -> None:
    typed = ["task=shift", "model=gla", "size.dim=32", "train.steps=7", "seed=3", "measure.seconds=0.5"]
    settings = compose.config(typed)
    old = made(
        task="shift", model="gla", seed=3, config=identity.portable(plain(settings)), variant=list(settings.variant)
    )
    command = older.worked_out(old)
    assert same(replace(compose.config(words_of(command)), threads=None, device="auto", dtype="auto"), settings)
    edited = {**old.config, "model": {**old.config["model"], "knob": 3}}
    with pytest.raises(UserError, match=r"was made with other model.knob, so that no command"):
        older.worked_out(replace(old, config=edited))
    with pytest.raises(UserError, match="today's settings refuse its own: model: 'gone'"):
        older.worked_out(replace(old, model="gone"))
    with pytest.raises(UserError, match="is a derived record, which holds no command"):
        older.worked_out(replace(old, kind="derived"))


def test_the_record_that_is_meant(tmp_path: Path) -> None:
    r, path = tiny.entry(tmp_path)
    store.write(tmp_path / "results", made(run_id=r.run_id + "c", command="python -m lra task=listops", score={}))
    where = f"results_dir={tmp_path / 'results'}"
    assert asked.found(r.run_id, tmp_path / "results") == asked.found(str(path), tmp_path) == path
    wanted = asked.of([r.run_id + "c", where, "--dry-run", "data_dir=/d", "out=/o", "--config-dir", "mine"])
    assert wanted.dry and not wanted.at_commit and wanted.out == Path("/o") / wanted.record.run_id
    typed = asked.typed(wanted)[1:]
    assert typed[:3] == ["-m", "lra", "task=listops"] and "--config-dir=mine" in typed and "data_dir=/d" in typed
    assert f"results_dir={wanted.out}" in typed and f"output_dir={wanted.out / 'outputs'}" in typed
    for words, said in (
        (["20269999T"], "no record of that id among the 2"), ([r.run_id[:12]], "2 records of"),
        ([r.run_id, "size.dim=8"], "size.dim: would make another run"), ([], "nothing is not one record"),
        ([r.run_id, "--at-comit"], "--at-comit is not one of"), (["2026"], "no record of that id"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            asked.of([*words, where])


def test_code_that_a_record_has_nothing_of_is_no_reason() -> None:
    here, _ = facts.commit()
    if here is None:
        pytest.skip("no checkout")
    node = {"_target_": "models.linear.LinearAttention", "inner": {"_target_": "lra.models.classifier.Classifier"}}
    files = code._own(made(config={"model": node, "task": {"_target_": "lra.tasks.listops.ListOps"}}))
    assert {"models/linear.py", "models/classifier.py", "configs/task/listops.yaml"} <= set(files)
    assert {"models/parts/heads.py", "tasks/base.py"} <= set(files), "what they import"
    assert "models/performer.py" not in files
    assert code.changed(made(commit="0" * 40)) is None


@pytest.mark.usefixtures("warm")
def test_a_run_repeated(tmp_path: Path) -> None:
    """Typed, recorded, and done again by what is recorded: equal to the bit, and the first is as it was."""
    words = tiny.words(tmp_path, "model=linear", "threads=1", "measure.enabled=false")
    assert tiny.lra(*words).returncode == 0
    results = tmp_path / "results"
    before = {path: path.read_bytes() for path in results.rglob("*.*")}
    (r,) = [r for _, r in store.find(results) if r.kind == "model"]
    places = (f"results_dir={results}", f"out={tmp_path / 'again'}", f"data_dir={tmp_path / 'data'}")
    done = tiny.lra(r.run_id, *places, module="lra.repeat")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy test, loss test, curve of 2 points, answers" in done.stdout
    assert done.stdout.rstrip().endswith("all agrees that should")
    assert {path: path.read_bytes() for path in results.rglob("*.*")} == before
    (new,) = [r for _, r in store.find(tmp_path / "again" / r.run_id) if r.kind == "model"]
    assert new.run_id != r.run_id and new.command == r.command and new.config_hash == r.config_hash


def test_the_code_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken whatever stands where it is started, and goes when it is done with."""
    here, _ = facts.commit()
    if here is None:
        pytest.skip("no checkout")
    monkeypatch.chdir(tiny.ROOT)
    with code.of(made(commit=here), True) as environment:
        place = Path(environment["PYTHONPATH"].split(":")[0])
        said = spoken([sys.executable, "-c", "import lra; print(lra.__file__)"], environment)[1]
        assert said == [f"{place / 'lra' / '__init__.py'}\n"]
    assert not place.exists()
    with pytest.raises(UserError, match="names no commit"), code.of(made(), True):
        pass
