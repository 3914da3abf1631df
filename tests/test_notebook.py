"""The notebook runs on the records of this repository, without torch, and equals its script."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "notebooks" / "leaderboard.py"


def run(**variables: str) -> str:
    program = "import runpy, sys; names = runpy.run_path(sys.argv[1]); chart = names['chart']\n"
    program += "print('panels', len(chart.axes), [t.get_text() for a in chart.axes for t in a.texts])\n"
    program += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPT)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"} | variables,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("False"), "a chart needs no torch"
    return done.stdout


def test_the_notebook_is_its_script() -> None:
    made = runpy.run_path(str(ROOT / "notebooks" / "pair.py"))["notebook"](SCRIPT.read_text())
    assert (ROOT / "notebooks" / "leaderboard.ipynb").read_text() == made, "run python notebooks/pair.py"
    cells = json.loads(made)["cells"]
    assert {c["cell_type"] for c in cells} == {"code", "markdown"}
    assert not any(line.startswith("#") for c in cells if c["cell_type"] == "code" for line in c["source"])


@pytest.mark.slow
def test_it_runs_on_our_records() -> None:
    out = run()
    assert "p of being equally accurate: " in out and "transformer" in out


def test_a_model_of_ones_own_joins_the_chart(tmp_path: Path) -> None:
    """Beside two of our models, by their records on the exams that all have sat."""
    ours = tmp_path / "ours"
    shutil.copytree(ROOT / "results" / "published", ours / "published")
    for task in ("listops", "image_jpeg", "pathfinder", "retrieval_acl"):
        for model in ("transformer", "performer"):
            part = Path("runs") / task / model
            shutil.copytree(ROOT / "results" / part, ours / part)
    theirs = tmp_path / "theirs"
    for path in (ROOT / "results" / "runs").glob("*/transformer/*"):
        there = theirs / "runs" / path.parent.parent.name / "mine" / path.name
        there.parent.mkdir(parents=True, exist_ok=True)
        renamed = path.suffix == ".json"
        content = path.read_bytes()
        there.write_bytes(content.replace(b'"model": "transformer"', b'"model": "mine"') if renamed else content)
    out = run(LRA_MINE=str(theirs), LRA_RESULTS=str(ours))
    assert "p of being equally accurate: " in out
    assert "'mine'" in out.split("panels")[-1] and "'transformer" in out.split("panels")[-1]
