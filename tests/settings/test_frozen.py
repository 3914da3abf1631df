"""The ability card, frozen: what its exams ask and how they are trained for, as on the day its board was begun.

A change here makes other exams of them: their cells are made again, by records that tell of it, and the digests
below are written anew in the same commit.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import yaml

from lra.root import CONFIGS
from lra.settings import build, compose, identity
from lra.settings.typed import plain
from lra.tasks.base import SPLITS

FROZEN = {
    "needle": "a1ce11d7cd000a19",
    "recall": "dcb08ebcd042365c",
    "recall_adjacent": "18651131d2dd3137",
    "shift": "99542abc619dcbdc",
    "select": "f959fda53fcb1f7c",
    "compress": "7248e7bfa4835b56",
    "flipflop": "267669096b138f31",
    "state": "277806af627327ea",
    "state_s3": "f4d3409066bda2c8",
    "hops": "a6f1761d621ad75e",
    "brackets": "152f335dc401fe4b",
    "smooth": "c8bfa571d3bc1c7b",
}
CARD = yaml.safe_load((CONFIGS / "sweep" / "abilities.yaml").read_text())["hydra"]["sweeper"]["params"]["task"]


def digest(task: str) -> str:
    """Of the settings of the control that computes nothing of its own, and of items of each split."""
    cfg = compose.config(["budget=ability", f"task={task}", "model=identity"])
    exam = build.task(cfg)
    drawn = [part for s in SPLITS for part in exam.split(s).drawn(np.arange(64))]
    items = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in drawn)).hexdigest()
    return identity.digest([identity.identity(plain(cfg)), items])


def test_all_of_the_card_is_frozen() -> None:
    assert list(FROZEN) == CARD.split(",")


@pytest.mark.parametrize("task", FROZEN)
def test_an_exam_stays_what_it_was(task: str) -> None:
    assert digest(task) == FROZEN[task]
