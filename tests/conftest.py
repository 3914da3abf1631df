"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.help.groups import limited
from tests.help.warm import Asked

# One thread a worker, before torch is imported: two workers of two threads each wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: a quarter of the suite is waiting for processes, signals and clocks."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 2


def pytest_collection_finish() -> None:
    """What has been imported stays: whoever measures memory collects garbage first, in a tenth of a second a time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The sample data that may lie beside the checkout; skips, saying so, where it does not."""
    if not SHARED.is_dir():
        pytest.skip(f"no sample data at {SHARED}")
    return SHARED


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of ours that a test has started are forked from one with its imports (tests.help.warm)."""
    monkeypatch.setattr(subprocess, "Popen", Asked)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 600 MiB; skips, saying so, where none may be made."""
    with limited(600 << 20) as group:
        yield group
