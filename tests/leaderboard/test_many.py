"""Twenty thousand records: seconds, and memory that does not grow with what is not shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lra.leaderboard.view import boards
from lra.results import load
from tests.help import many, tiny

PROGRAM = """
import resource, sys
from lra.leaderboard.__main__ import main
main()
own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
print("peak", max(own.ru_maxrss, others.ru_maxrss) / 1024, own.ru_utime + own.ru_stime)
"""


def test_a_few_hundred_of_them(tmp_path: Path) -> None:
    found = load(many.write(tmp_path, 600))
    assert found.broken == [] and len(found.runs) == 600 and not found.runs.edited.any()
    [board] = boards(found)
    assert len(board.of("model")) == len(many.MODELS) and len(board.of("floor")) == 1
    assert board.of("model")[0].name == many.MODELS[-1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit there")
def test_twenty_thousand(tmp_path: Path) -> None:
    """At most 10 s of this process's time, whatever else the machine does, and 500 MB."""
    many.write(tmp_path, 20_000)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"results_dir={tmp_path}"],
        capture_output=True, text=True, check=True, env=tiny.environment(),
    )  # fmt: skip
    peak, seconds = map(float, done.stdout.splitlines()[-1].split()[1:])
    assert peak < 500 and seconds < 10, (peak, seconds)
