"""What a run says of the time that it has left."""

from __future__ import annotations

import re
from itertools import count

import pytest

from lra.train import progress
from lra.train.progress import Progress


@pytest.mark.parametrize("done", [0, 80])
def test_the_time_left_is_of_steps_that_were_made_here(
    done: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on has made none of those before."""
    clock = count(0, 10)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    bar = Progress(100, seconds_between_lines=0.0)
    for step in range(done + 1, 101):
        bar(step, loss=1.0)
    said = [int(text) for text in re.findall(r"(\d+) s left", capsys.readouterr().err)]
    assert said == [10 * (100 - step) for step in range(done + 1, 101)]
