"""A search of settings: the same trials for each, chosen on valid, the test looked at once, and nothing lost."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra import results, tune
from lra.errors import UserError
from lra.leaderboard import files, view
from lra.leaderboard.verify import strays
from lra.record import store
from lra.record.record import Record
from lra.runner.keeper import End
from lra.runner.run import recorded
from lra.settings import build, compose, identity
from lra.settings.typed import plain
from tests.help import tiny

RATE = "train.learning_rate=tag(log,interval(1e-4,1e-1))"
DROPOUT = "size.dropout=0,0.5"


class Study:
    """As much of Optuna as is asked of it, where it is not installed: draws at random."""

    def __init__(self, sampler: random.Random, direction: str = "maximize") -> None:
        self.random = sampler

    def ask(self) -> Study:
        return self

    def tell(self, trial: Any, value: float | None = None, state: Any = None) -> None:
        assert (value is None) != (state is None)

    def suggest_categorical(self, key: str, values: list[str]) -> str:
        return self.random.choice(values)

    def suggest_int(self, key: str, low: int, high: int, log: bool) -> int:
        return self.random.randint(low, high)

    def suggest_float(self, key: str, low: float, high: float, log: bool) -> float:
        return low * (high / low) ** self.random.random() if log else self.random.uniform(low, high)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        stand_in = SimpleNamespace(
            create_study=lambda sampler, direction="maximize": Study(sampler),
            samplers=SimpleNamespace(TPESampler=lambda seed: random.Random(seed)),
            trial=SimpleNamespace(TrialState=SimpleNamespace(FAIL="fail")),
            logging=SimpleNamespace(set_verbosity=lambda level: None, WARNING=0),
        )
        monkeypatch.setitem(sys.modules, "optuna", stand_in)


class Launcher:
    """Leaves the record of a run at once, and counts them. score: of its settings; null is a failure."""

    def __init__(self, score: Callable[[Any], float | None]) -> None:
        self.score, self.done = score, []

    def launch(self, job: Any, seconds: float | None = None, over: int = 0) -> End:
        settings = compose.config(job.words, job.config_dir)
        accuracy, config = self.score(settings), plain(settings)
        self.done.append(settings)
        exam = build.task(settings)
        started, run_id = store.new_id()
        record = Record(
            run_id=run_id, started_utc=started, kind="model", status="diverged" if accuracy is None else "ok",
            reason="it is said to" if accuracy is None else None, task=settings.choices.task,
            model=settings.choices.model, budget=settings.budget, row=exam.row, seed=settings.seed,
            config=identity.portable(config), config_hash=identity.identity(config), variant=list(settings.variant),
            data={"fingerprint": exam.fingerprint()}, accuracy_valid=accuracy, items_valid=60,
            accuracy_test=0.25 if settings.test and accuracy is not None else None, items_test=60, dtype="float32",
            machine={"name": "here", "device": "cpu", "threads": 1}, length=exam.max_len,
        )  # fmt: skip
        path = store.write(settings.results_dir, record)
        return End(0 if accuracy is not None else 1, path)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Launcher]:
    def of(score: Callable[[Any], float | None]) -> Launcher:
        found, before = Launcher(score), build.instantiate
        monkeypatch.setattr(
            build,
            "instantiate",
            lambda node, field, **more: found if field == "launcher" else before(node, field, **more),
        )
        return found

    return of


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lra.tune", *words])
    return tune.main()


def score(settings: Any) -> float | None:
    """Best at little dropout and a rate near 0.01; of the highest dropout there is none."""
    if settings.size.dropout == 0.5:
        return None
    return 0.9 - abs(settings.train.learning_rate - 0.01) - settings.size.dropout


def test_each_model_has_as_many_trials_and_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], launched: Any
) -> None:
    """Killed and typed again it goes on with the same trials; what is chosen is best on valid, and run with each seed;
    no trial stands in a table, as a number or a failure."""
    launcher = launched(score)
    words = tiny.words(tmp_path, "device=cpu", "trials=4", "model=linear,local", "seed=3,4", RATE, DROPOUT)
    code = typed(monkeypatch, *words)
    told = capsys.readouterr()
    trials = [s for s in launcher.done if not s.test]
    looks = [s for s in launcher.done if s.test]
    assert {s.seed for s in trials} == {3} and {(s.choices.model, s.seed) for s in looks} == {
        (model, seed) for model in ("linear", "local") for seed in (3, 4)
    }
    found = results.load(tmp_path / "results")
    assert code == 0 and len(found.trials) == len(trials) and len(found.runs) == len(looks) == 4
    for model in ("linear", "local"):
        own = [s for s in trials if s.choices.model == model]
        assert {s.search.trial for s in own} <= set(range(1, 5)) and all(s.search.trials == 4 for s in own)
        best = max((s for s in own if score(s) is not None), key=score)
        for look in (s for s in looks if s.choices.model == model):
            assert (look.train.learning_rate, look.size.dropout) == (best.train.learning_rate, best.size.dropout)
            assert look.search.trial is None and look.search.trials == 4
            assert look.search.over == ("train.learning_rate", "size.dropout")
        assert f"listops {model}" in told.out and " 4 " in told.out
    assert {s.size.dropout for s in trials} == {0.0, 0.5}, "of few trials some must fail"
    assert any(found.trials.status == "diverged") and found.trials.accuracy.isna().all()
    assert (found.cells.failed == 0).all() and (found.cells.seeds == 2).all() and len(found.cells) == 2
    assert strays(found) == [] and found.misplaced == []
    shown = files.files(view.boards(found), {})["leaderboard.md"].decode()
    assert "test=false" not in shown and "4 trials over train.learning_rate, size.dropout" in shown
    before = sorted((tmp_path / "results").rglob("*.json"))

    before[0].unlink()  # as if it had been stopped before
    launcher.done.clear()
    typed(monkeypatch, *words)
    assert len(launcher.done) == 1 and len(list((tmp_path / "results").rglob("*.json"))) == len(before)


def test_where_no_trial_has_a_score_the_test_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], launched: Any
) -> None:
    launcher = launched(lambda settings: None)
    assert typed(monkeypatch, *tiny.words(tmp_path, "device=cpu", "trials=2", "model=linear", RATE)) == 1
    assert not any(s.test for s in launcher.done) and "nothing" in capsys.readouterr().out


def test_a_refused_trial_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], launched: Any
) -> None:
    def refuse(settings: Any) -> float:
        raise UserError(f"size.heads: {settings.size.heads} does not divide qkv_dim 16")

    launched(refuse)
    assert typed(monkeypatch, *tiny.words(tmp_path, "trials=2", "model=linear", "size.heads=3,5")) == 1
    assert "does not divide qkv_dim 16" in capsys.readouterr().err


def test_a_trial_does_not_sit_the_test(tmp_path: Path) -> None:
    record = recorded(compose.config(tiny.words(tmp_path, "model=linear", "test=false", "measure.enabled=false")))
    assert record.status == "ok" and record.accuracy_valid is not None
    assert record.accuracy_test is record.items_test is record.loss_test is record.predictions is None
    assert record.score == {} and "test" not in record.wall_seconds and "test=false" in record.command
    assert not list((tmp_path / "results").rglob("*.npz"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=linear", RATE], "trials: None is not a whole number from 1"),
        (["trials=0", "model=linear", RATE], "trials: 0 is not"),
        (["trials=3", RATE], "model: is not said"),
        (["trials=3", "model=linear"], "tune: nothing is searched"),
        (["trials=3", "model=linear", "results_dir=a,b"], "results_dir: shapes no result"),
        (["trials=3", "model=linear", "threads=1,2"], "threads: shapes no result"),
        (["trials=3", "model=linear", "test=true,false"], "test: is nothing that a search is told"),
        (["trials=3", "model=linear", "size.dropout=interval(1,0)"], "size.dropout: from 1.0 to 0.0 is no interval"),
        (["trials=3", "model=linear", "size.dropout=tag(log,interval(0,1))"], "above 0, as log asks for"),
        (["trials=3", "model=linear", "seed=a,b", RATE], "seed: a is not a whole number"),
        (["trials=3", "model=linear", "=3"], "is not an option"),
    ],
)
def test_what_cannot_be_searched_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        tune.asked(["task=listops", *words])


def test_without_optuna_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'lra\[optuna\]'"):
        tune.library()


def test_whole_numbers_and_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what = tune.asked(["task=listops", "model=linear", "trials=3", "size.depth=int(interval(1,3))", "size.dim=16,32"])
    assert list(what.space.drawn) == ["size.depth", "size.dim"]
    trial = Study(random.Random(0))
    assert {what.space.words(trial)[0] for _ in range(40)} == {f"size.depth={n}" for n in (1, 2, 3)}
    assert typed(monkeypatch, *tiny.words(tmp_path, "trials=3", "model=linear", RATE, "--dry-run")) == 0
    assert "each of 3 trials" in capsys.readouterr().out and not any(tmp_path.iterdir())
