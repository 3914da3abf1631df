"""Each examples/configs/model/*.yaml keeps the contract, where the package it wraps is installed; a class of one's own
gets its ability card."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from lra.check.card import ask, points
from lra.check.subject import Subject
from lra.errors import UserError
from lra.results import load
from lra.settings.compose import config
from tests.help import tiny

FOLDER = Path(__file__).resolve().parents[1] / "examples"
NAMES = sorted(p.stem for p in (FOLDER / "configs" / "model").glob("*.yaml"))
POINTS = ("shapes", "finite", "gradients", "repeatable", "padding", "batch", "bf16")


@pytest.mark.parametrize("name", NAMES)
def test_example_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    options = [f"model={name}", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16"]
    subject = Subject(config(options, str(FOLDER / "configs")), 160)
    try:
        subject.build()
    except UserError as error:
        if missing := re.search(r"[Nn]o module (?:named )?'(\w+)'", str(error)):
            pytest.skip(f"{missing[1]} is not installed: pip install -e '.[peers]'")
        raise
    for point in POINTS:
        for finding in ask(point, points()[point], subject):
            assert finding.status != "fail", f"{finding.name}: {finding.text}"


@pytest.mark.usefixtures("warm")
def test_a_class_of_ones_own_sits_the_exams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a clean folder, where it is typed. The sweep shows its card at its end, the example what is in it."""
    program = str(FOLDER / "abilities.py")
    monkeypatch.setattr(sys, "argv", [program, "task=shift", *ABILITY, f"data_dir={tmp_path / 'data'}"])
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(program, run_name="__main__")
    out = capsys.readouterr().out
    (cell,) = load(tmp_path / "results").abilities.itertuples()
    assert (cell.task, cell.budget, cell.seeds, cell.learnt, cell.limit) == ("shift", "ability", 1, 0, 80)
    assert cell.model.startswith("gate ") and "0 of 1 exams learnt" in out
    assert re.search(rf"Shift +fixed offset +no +{cell.score:.3f} +>80", out)
    assert re.search(r"shift +0 +1 +\S+ +inf", out)


ABILITY = (
    "task.sizes=[40,60]", "train.batch_size=8", "train.eval_every=4", "train.steps=10", "train.halve_at=[3,6]",
    "train.warmup_steps=2", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", "size.depth=1",
    "measure.enabled=false", "threads=1",
)  # fmt: skip
