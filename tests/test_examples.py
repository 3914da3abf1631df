"""Each examples/configs/model/*.yaml keeps the contract, where the package it wraps is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lra.check.card import ask, points
from lra.check.subject import Subject
from lra.errors import UserError
from lra.settings.compose import config

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
