"""Completion, asked of a real bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lra.__main__ import verbs
from lra.complete import LISTED, doors, script
from lra.list import GROUPS
from lra.settings.words import choices
from tests.help import tiny

ASK = r"""
COMP_LINE="$1"; COMP_POINT=${#1}; _lra; printf '%s\n' "${COMPREPLY[@]}"
"""


def asked(line: str, shell: str = "bash", config_dir: str | None = None, breaks: bool = True) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    text = script(shell, config_dir) + ("" if breaks else 'COMP_WORDBREAKS=" "\n') + ASK
    done = subprocess.run(
        [shell, "-c", text, shell, line], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.stderr == "", done.stderr
    return done.stdout.split()


def test_values_of_a_group() -> None:
    assert asked("lra task=listops model=perf") == ["performer"]
    assert asked("python -m lra model=s4d") == ["s4d", "s4d_block"]
    assert asked("lra budget=") == choices("budget") and asked("lra sweep=ab") == ["abilities"]
    assert asked("lra -m model=linear,perf") == ["linear,performer"], "a list goes on"
    assert asked("lra model=linear,perf", breaks=False) == ["model=linear,performer"]
    assert asked("lra results_dir=x") == [] and asked("lra model=nothing") == []


def test_doors_and_words() -> None:
    assert asked("lra leader") == ["leaderboard"] and asked("python -m lra.leader") == ["lra.leaderboard"]
    assert asked("lra list mo") == ["models"] and "lra.plot" in asked("python -m ")
    assert asked("lra task=listops mod") == ["model="] and asked("lra --d") == ["--dry-run"]
    assert asked("python script.py mod") == [] == asked("python ")
    assert doors() == verbs() and LISTED.split() == list(GROUPS)


def test_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "zebra.yaml").write_text("model: {}\n")
    assert asked("lra model=ze", config_dir=str(tmp_path)) == ["zebra"]


def test_the_door() -> None:
    done = tiny.lra("bash", module="lra.complete")
    assert done.returncode == 0 and done.stdout == script("bash")
    assert tiny.lra("zsh", module="lra.complete").stdout.startswith("autoload -U +X bashcompinit")
    for words in ([], ["fish"], ["bash", "zsh"], ["bash", "--config-dir", "nowhere"]):
        done = tiny.lra(*words, module="lra.complete")
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
