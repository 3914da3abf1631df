"""`python -m lra.compare`: the same items, the same machine, the same number of parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lra
from lra.errors import UserError
from lra.marks.compare import RATIOS, ratios
from lra.results import load
from lra.settings import compose, match
from lra.settings.match import matched, nearest, parameters
from tests.help import answered, made

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> str:
        from lra import compare as door  # which is the function, unless a module is imported over it

        assert callable(door)
        import runpy

        monkeypatch.setattr(sys, "argv", ["lra.compare", *words, f"results_dir={tmp_path}"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("lra.compare", run_name="__main__")
        out = capsys.readouterr()
        assert "Traceback" not in out.err and lra.compare is door
        return out.out if ended.value.code == 0 else f"{ended.value.code} {out.err}"

    return call


def speed(rate: float, peak: int) -> dict:
    return {"status": "ok", "step_peak_bytes": peak, "train": {"examples_per_second": rate}}


def test_a_difference_and_what_it_costs(tmp_path: Path, run: Run) -> None:
    for seed in range(3):
        answered.run(tmp_path, "linear", 0.8 + seed / 100, seed=seed, cost=speed(30.0, 5000))
        answered.run(tmp_path, "transformer", 0.4 + seed / 100, seed=seed, cost=speed(10.0, 20000))
    answered.run(
        tmp_path, "transformer", 0.5, seed=7, cost=speed(1.0, 1), machine={"name": "CPU of few", "device": "cpu"}
    )
    text = run("linear", "transformer", "task=listops")
    assert "linear    less" not in text and "+3" in text and "3 and 4" in text
    assert "3.00x   0.25x" in text and "apart" in text and "CPU of few" not in text  # which has measured one of them
    [line] = lra.compare("linear", "transformer", task="listops", results=tmp_path).itertuples()
    assert line.low < line.difference < line.high and line.p < 0.05


def test_costs_in_turns_are_of_one_sweep_and_one_machine(tmp_path: Path) -> None:
    for model, factor in (("transformer", 2.0), ("linear", 1.0)):
        for length in (256, 512):
            seconds = [factor * length] * 5
            made.written(tmp_path, made.point(model, length, seconds, peak=int(factor * 1000)))
    made.written(
        tmp_path, made.point("linear", 1024, [9.0] * 5), made.point("transformer", 1024, [1.0] * 5, cost={"sweep": "b"})
    )
    found = load(tmp_path)
    pairs = made.pd.DataFrame([("listops", "linear", "transformer")], columns=["row", "a", "b"])
    [line] = ratios(found.timed, found.points, pairs).itertuples()
    assert (line.where, line.speed, line.memory, line.how) == ("text, length 512, batch 1", 2.0, 0.5, "in turns")
    assert ratios(found.timed, found.points.iloc[:0], pairs).columns.tolist() == list(RATIOS)


def test_the_width_of_as_many_parameters(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = matched("linformer", "transformer", "listops", "quick")
    words = ["task=listops", "model=linformer", *found.words]
    aim = parameters(compose.config(["task=listops", "model=transformer"]))
    near = parameters(compose.config(words))
    usual = parameters(compose.config(words[:2]))
    assert (
        abs(near / aim - 1) < 0.05 < abs(usual / aim - 1) and f"{near:,} parameters, transformer {aim:,}" in found.told
    )
    assert found.name == " ".join(["linformer", *compose.config(words).variant])
    assert matched("performer", "transformer", "listops", "quick").words == ()
    # Once is enough to look for the width, which composes the settings anew for each that is tried.
    asked = ("linformer", "transformer", "listops", "quick")
    monkeypatch.setattr(match, "matched", lambda *words: {asked: found}[words[:4]])
    answered.run(tmp_path, "transformer", 0.5, config_hash="0" * 16)
    said = run("linformer", "transformer", "task=listops", "match=parameters")
    assert said.startswith("2 ") and "Run: python -m lra task=listops budget=quick model=linformer size.dim=" in said
    answered.run(tmp_path, "linformer", 0.6, variant=list(found.name.split(" ")[1:]), config_hash="1" * 16)
    text = run("linformer", "transformer", "task=listops", "match=parameters")
    assert found.told in text and "linformer dim=" in text and "With one seed" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["linear"], "allowed are two models"),
        (["linear", "local"], "task: is not said"),
        (["linear", "local", "task=listops", "match=width"], "match: 'width' is not one of parameters"),
        (["linear", "locl", "task=listops"], "locl: no finished run on listops at budget=quick. Did you mean local?"),
    ],
)
def test_bad_words_get_one_line(tmp_path: Path, run: Run, words: list[str], said: str) -> None:
    answered.run(tmp_path, "linear", 0.5)
    answered.run(tmp_path, "local", 0.5)
    out = run(*words)
    assert out.startswith("2 lra: ") and said in out and out.count("\n") == 1


def test_sizes_that_no_width_has_are_refused() -> None:
    with pytest.raises(UserError, match="match: no width of synthesizer on text has about the"):
        matched("synthesizer", "transformer", "text", "paper")


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5])
@pytest.mark.parametrize("aim", [1, 900, 12_345, 800_000])
def test_the_nearest_count_is_found_in_few_looks(power: float, aim: int) -> None:
    asked: list[int] = []

    def count(n: int) -> int:
        asked.append(n)
        return int(500 + 30 * n**power)

    found = nearest(count, aim, 16)
    looks = len(asked)
    assert found == min(range(1, 1025), key=lambda n: (abs(count(n) - aim), n))
    assert looks <= 16 and len(set(asked[:looks])) == looks
