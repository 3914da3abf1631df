"""Data do not depend on the process that makes them, nor on its hash seed or its count of cores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lra.tasks.base import digest
from lra.tasks.listops import ListOps, exam
from lra.tasks.retrieval_synth.exam import RetrievalSynth
from lra.tasks.text import Text
from tests.help import tiny
from tests.help.abilities import TASKS
from tests.tasks import test_abilities, test_retrieval_synth, test_text

# What is compiled for it is so once.
pytestmark = pytest.mark.xdist_group("pathfinder")

CODE = """
import json, sys
from tests.tasks import test_elsewhere
print(json.dumps(test_elsewhere.made(*sys.argv[1:], cores=3)))
"""


def made(folder: str, reviews: str, cores: int) -> dict[str, Any]:
    """What each exam draws, shuffles or divides."""
    exam.cpu_count = lambda: cores
    listops = ListOps(max_len=300, sizes=(300, 9, 9), min_length=50, data_dir=folder).split("test")
    text = Text(path=reviews)
    return {
        "abilities": {n: [test_abilities.content(t(sizes=(20, 20)), s) for s in test_abilities.SPLITS]
                      for n, t in TASKS.items()},
        "listops": digest([listops[i].documents[0].tolist() for i in range(9)]),
        "retrieval_synth": test_retrieval_synth.contents(RetrievalSynth(sizes=(8, 8, 8)).split("test")),
        "text": [text.fingerprint(), *(text.split(s).indices.tolist() for s in ("valid", "train"))],
    }  # fmt: skip


def test_another_process_and_hash_seed_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exam, "cpu_count", exam.cpu_count)  # put back in the end
    reviews = test_text.write(tmp_path, train=test_text.reviews(200, 1), test=test_text.reviews(60, 2))
    command = [sys.executable, "-c", CODE, str(tmp_path / "there"), str(reviews)]
    environment = tiny.environment(PYTHONHASHSEED="77")
    done = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = made(str(tmp_path / "here"), str(reviews), cores=1)
    assert json.loads(done.stdout) == here
    assert here["abilities"] == test_abilities.GOLDEN and here["retrieval_synth"] == test_retrieval_synth.GOLDEN[2]
