"""The ability card: what a model can do, on a terminal, in a notebook, from Python."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lra
from lra.errors import UserError
from lra.record import store
from lra.settings.own import Asked
from lra.sweep import abilities
from lra.sweep.abilities import card
from lra.sweep.callbacks import abilities_of
from lra.sweep.job import Job, Row
from tests.help import scored, tiny
from tests.leaderboard.test_formats import Reader
from tests.test_examples import ABILITY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = scored.board(tmp_path_factory.mktemp("card"), {
        "linear": {"needle": (1.0,), "state": (0.02,), "hops": (None,), "shift": (1.0, 0.1, 1.0)},
        "linear_of_mine": {"needle": (1.0,)},
    })  # fmt: skip
    scored.run(folder, "linear", 1.0, variant=["train.steps=3"], config_hash="1" * 16)
    return folder


def test_a_line_an_exam(folder: Path) -> None:
    usual, other = repr(card(folder, "linear")).split("\n\nlinear train.steps=3")
    lines = [re.split(r"  +", line) for line in usual.splitlines()]
    assert lines[0] == ["linear, budget ability, float32: 1 of 4 exams learnt, 1 more by some seeds"]
    table = {line[0]: line[1:] for line in lines if len(line) == 7}
    assert list(table) == ["exam", "Needle", "Shift", "State", "Hops"]
    assert table["Needle"][:3] == ["carry", "yes", "1.000"] and table["Needle"][5] == "…0.001…"
    assert table["Shift"][:2] == ["fixed offset", "2 of 3"] and re.fullmatch(r"\d+,\d00", table["Shift"][3])
    assert table["State"][1] == "no" and table["State"][3:] == [">160,000", "-", "-"]
    assert table["Hops"] == ["chained lookup", "diverged", "-", "-", "-", "-"]
    assert "Hops: diverged (the loss is not a number at step 12)" in usual and "on Example CPU." in usual
    assert max(map(len, usual.splitlines())) <= 80 and "1 of 1 exams learnt" in other


def test_a_notebook_shows_a_table(folder: Path, tmp_path: Path) -> None:
    text = card(folder, "linear")._repr_html_()
    seen = Reader(text).seen
    assert {tag for tag, _ in seen} == {"p", "b", "table", "thead", "tbody", "tr", "th", "td", "small", "br"}
    grounds = [float(found) for found in re.findall(r"rgba\(0,114,178,([\d.]+)\)", text)]
    assert len(grounds) == 4 and grounds[0] == 0.5 and grounds[2] < 0.05, "of the exam that diverged there is none"
    scored.run(tmp_path, "<i>&", 1.0)
    text = card(tmp_path, "<i>&")._repr_html_()
    assert "<i>&" not in text and html.escape("<i>&") in text
    assert (
        "no ability exam" in repr(card(tmp_path, "linear")) and "no ability exam" in card(tmp_path, "x")._repr_html_()
    )


def test_the_end_of_a_sweep_shows_what_it_was_about(folder: Path) -> None:
    """The cells of its runs and no other of the model; of several models the board has more."""
    runs = {r.run_id: r for _, r in store.find(folder) if r.model == "linear" and not r.variant}
    job = Job((), None, "needle", "linear", 0, "needle linear s0")
    rows = [Row(job, "ok", run_id=i) for i, r in runs.items() if r.row in ("needle", "hops")]
    text = abilities_of([*rows, Row(job, "refused")], folder)
    assert "1 of 2 exams learnt" in text and "Hops" in text and "Shift" not in text
    assert "no ability exam has a record" in abilities_of([Row(job, "refused")], folder)
    other = Row(Job((), None, "needle", "local", 0, ""), "ok")
    assert "python -m lra.leaderboard" in abilities_of([*rows, other], folder) and abilities_of([], folder) == ""


def places(tmp_path: Path) -> list[str]:
    return [word for word in tiny.words(tmp_path) if word.split("=")[0].endswith("_dir")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=transformer,linear",), "is not one model"),
        ((), "is not one model"),
        (("model=linear", "task=shift", "train.steps=-1"), "train.steps: -1"),
        (("model=linear", "trainn.steps=1"), "Did you mean train.steps"),
    ],
)
def test_what_the_user_can_mend_is_said(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        lra.abilities(*words, *places(tmp_path))


@pytest.mark.parametrize(("code", "model"), [(130, "linear"), (0, "transformer"), (1, "linear")])
def test_a_card_that_was_stopped_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, model: str) -> None:
    """Whatever is recorded so far; an exam that has not ended well is a cell of it."""
    monkeypatch.setattr(abilities, "typed", lambda what: (code, []))
    what = Asked((f"model={model}", f"results_dir={folder}"))
    if code == 1:
        assert len(abilities.taken(what).cells) == 5
        return
    with pytest.raises(RuntimeError, match=rf"stopped \(exit code {code}\)"):
        abilities.taken(what)


GATE = """
import lra, sys
from tests.test_face import Blend
card = lra.abilities(Blend, *sys.argv[1:])
print("cells", len(card.cells), sorted(card.cells.task))
"""


@pytest.mark.slow
def test_one_that_is_killed_goes_on(tmp_path: Path) -> None:
    """All of it: the call, its sweep and its run, in the middle of the second of three exams."""
    words = [*ABILITY, *places(tmp_path), "task=shift,select,state", "train.steps=100", "checkpoint_every=1"]
    command = [sys.executable, "-c", GATE, *words]
    first = subprocess.Popen(command, cwd=tiny.ROOT, env=tiny.environment(), start_new_session=True)
    while not list((tmp_path / "results").glob("runs/shift/*/*.json")):
        time.sleep(0.2)
        assert first.poll() is None
    while not list((tmp_path / "results" / "unfinished").glob("select*/state-*.json")):
        time.sleep(0.05)
        assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = subprocess.run(command, cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True)
    assert "cells 3 ['select', 'shift', 'state']" in done.stdout, done.stderr
    assert len(list((tmp_path / "results").glob("runs/*/blend/*.json"))) == 3, "what was recorded was not done again"
    assert "goes on from step" in done.stderr
