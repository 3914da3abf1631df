"""What there is, as `python -m lra.list` tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra.list import GROUPS, LONGEST, listed, said
from lra.settings.words import choices
from tests.help import tiny


@pytest.mark.parametrize("group", [g.removesuffix("s") for g in GROUPS])
def test_each_file_says_something_of_itself(group: str) -> None:
    found = listed(group)
    assert [name for name, _ in found] == choices(group)
    assert all(3 < len(text) <= LONGEST and "\n" not in text for _, text in found), found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# @package _global_\n# Mine, after S. Gu et al. 2022,\n# with 2 heads. Not more.\nmodel: x\n# y.\n",
         "Mine, after S. Gu et al. 2022, with 2 heads"),
        ("# Convolutions of 4. It knows.\n", "Convolutions of 4"),
        ("# The rule: tasks/x.py\n", "The rule"),
        ("# In floats.\n# bits: 2 to 24\n", "In floats"),
        ("# One of many.\n#   python -m lra.treat record=ID\n", "One of many"),
        ("# In floats.\n#   treatment.steps=0    not at all\n", "In floats"),
        ("model: x\n# later\n", ""),
        ("# " + "a" * 500, "a" * (LONGEST - 1) + "…"),
        ("# \x1b[31mred", "\N{REPLACEMENT CHARACTER}[31mred"),
    ],
)  # fmt: skip
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert said(text) == sentence


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# Mine. And more.\n")
    done = tiny.lra("models", "--config-dir", str(tmp_path), module="lra.list")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and any(line.split() == ["mine", "Mine"] for line in lines) and len(lines) > 30
    for words in ([], ["model"], ["models", "tasks"], ["models", "--config-dir", "nowhere"]):
        done = tiny.lra(*words, module="lra.list")
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
