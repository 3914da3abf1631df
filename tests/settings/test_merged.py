"""What is merged from plain values is what Hydra composes, to the order of the keys; what only Hydra can say is left to
it, and comes out as it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lra.errors import UserError
from lra.settings import compose, merged, words

TASKS, MODELS, BUDGETS = (words.choices(group) for group in ("task", "model", "budget"))
OFTEN = 13  # in every run of the tests one of so many


def cases() -> list[list[str]]:
    """Each task in each budget, with models that change."""
    out = [
        [f"task={task}", f"model={MODELS[(7 * i + 13 * j) % len(MODELS)]}", f"budget={budget}"]
        for i, task in enumerate(TASKS)
        for j, budget in enumerate(BUDGETS)
        if budget != "published"
    ]
    return out + [[f"model={model}", f"task={TASKS[i % len(TASKS)]}"] for i, model in enumerate(MODELS)]


def same(typed: Sequence[str], folders: Sequence[str] = ()) -> None:
    """What is merged, beside what Hydra composes."""
    hydras = compose.of_hydra(compose._hydra(typed, folders))
    ours = merged.composed(words.as_typed(typed), folders)
    assert ours is not None, typed
    assert json.dumps(ours.asked) == json.dumps(hydras.asked)
    assert json.dumps(ours.own) == json.dumps(hydras.own)
    assert list(ours.words) == list(hydras.words)
    for group in ("task", "model", "budget", "treatment"):
        assert ours.choices[group] == hydras.choices[group]


@pytest.mark.parametrize(
    "typed",
    [pytest.param(typed, marks=() if i % OFTEN == 1 else pytest.mark.slow) for i, typed in enumerate(cases())],
    ids=" ".join,
)
def test_pairs_are_what_hydra_composes(typed: list[str]) -> None:
    same(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "train.steps=7 train.learning_rate=1 train.rates=[1e-3,3e-3] data.parts=2 seed=3 size.dropout=0.5",
        "sweep=abilities model=performer model.mixer.features=256 task.sizes=[5,6] compile=true",
        "sweep=paper budget=quick sweep=cost cost.lengths=[256,512] claims.time=2",
        "treatment=pretrain treatment.steps=3 launcher=slurm launcher.partition=gpu output_dir=/some/where",
        "name='a, b=c' results_dir=here/there data_dir=~/x wandb.mode=offline train.core_minutes=null minutes=3.5",
        "task=image task=text budget=published model=mega_block task=listops devices=0,1",
        "task=recall_capacity model=s4d budget=ability train.shares.warmup=0.1 measure.memory_limit_gib=4",
    ],
)
def test_words_are_what_hydra_composes(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_DATA", "some/${where}")
    monkeypatch.delenv("LRA_RESULTS", raising=False)
    same(typed.split(" ") if "'" not in typed else ["name=a, b=c", *typed.split("' ")[1].split(" ")])


OWN = {
    "model/mine.yaml": "model:\n  mixer: {_target_: mine.Mixer, _partial_: true, width: '${size.dim}', none: null}\n",
    "model/mine_more.yaml": "defaults: [mine]\nmodel: {mixer: {more: [1, 2.5, a]}}\nclaims: {time: 1}\n",
    "task/exam.yaml": "defaults:\n  - listops\n  - _self_\ntask: {name: exam, max_len: 77}\n",
    "budget/mini.yaml": "budget: mini\ntrain: {steps: 5, learning_rate: 1}\n",
    "scale/mini/exam.yaml": "size: {dim: 8, dropout: 0}\n",
    "pair/exam-mine.yaml": "train: {eval_every: 2}\n",
    "recipe/other/mine/exam.yaml": "train: {grad_clip: 1}\n",
    "budget/quick.yaml": "train: {steps: 1234}\n",  # ours stands before it
    "sweep/wide.yaml": "defaults:\n  - override /budget: mini\nsweep: wide\n",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# @package _global_\n# Mine.\n{text}")
    return tmp_path


@pytest.mark.parametrize(
    "typed",
    [
        "task=exam model=mine budget=mini",
        "task=exam model=mine_more model.mixer.none=3 sweep=wide",
        "sweep=wide budget=quick model=mine size.dim=16",
    ],
)
def test_files_of_ones_own_are_what_hydra_composes(own: Path, typed: str) -> None:
    same(typed.split(), [str(own)])


def test_a_file_that_is_edited_is_read_again(own: Path) -> None:
    typed = ["task=exam", "model=mine", "budget=mini"]
    assert compose.config(typed, own).train.steps == 5
    path = own / "budget" / "mini.yaml"
    path.write_text(path.read_text().replace("steps: 5", "steps: 6"))
    assert compose.config(typed, own).train.steps == 6
    (own / "scale" / "mini" / "exam.yaml").unlink()
    assert compose.config(typed, own).size.dim != 8
    same(typed, [str(own)])


ODD = {
    "model/odd.yaml": ("model=odd", "model: {mixer: '${model.stack}'}\n"),
    "model/relative.yaml": ("model=relative", "model: {a: 1, mixer: {b: '${..a}'}}\n"),
    "task/odd.yaml": ("task=odd", "defaults: [/task/listops, _self_]\ntask: {max_len: 3}\n"),
    "sweep/odd.yaml": ("sweep=odd", "sweep: odd\nhydra: {job: {name: mine}}\n"),
    "budget/odd.yaml": ("budget=odd", "train: {steps: '7'}\n"),
}


@pytest.mark.parametrize("path", ODD)
def test_what_only_hydra_can_say_is_left_to_it(own: Path, path: str) -> None:
    word, text = ODD[path]
    (own / path).write_text(f"# @package _global_\n{text}")
    assert merged.composed([word], [str(own)]) is None
    try:  # and comes through
        settings = compose.config([word], own)
    except UserError as error:
        pytest.fail(str(error))
    hydras = compose.settled(compose.of_hydra(compose._hydra([word], [str(own)])), [str(own)])
    assert settings == hydras


def test_where_a_file_stands_is_said_first(own: Path) -> None:
    path = own / "budget" / "mini.yaml"
    assert merged.composed(["budget=mini"], [str(own)]) is not None
    path.write_text(f"# Hydra looks for it in the first lines.\n{path.read_text()}")
    assert merged.composed(["budget=mini"], [str(own)]) is None


@pytest.mark.parametrize(
    "word",
    [
        "+model.mixer.x=1", "++train.steps=3", "~train.steps", "hydra.job.name=x", "train.steps=three", "train.stps=3",
        "task=nothing", "task=3", "pair=x", "train=3", "train.steps=1,2", "model={a: 1}", "train.steps=null.x",
        "treatment=null", "variant=[x]", "model.depth=${size.dim}", "task.sizes.0=3", "train.rates=3", "settings=x",
        "seed=1.5", "seed=true", "compile=1", "data_dir=a\\b", "words=[a]", "train.shares=null", "sweep=../sweep/all",
    ],
)  # fmt: skip
def test_odd_words_are_left_to_hydra(word: str) -> None:
    assert merged.composed(words.as_typed([word])) is None
