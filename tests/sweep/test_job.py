"""The jobs of a sweep are those that Hydra hands over, with and without it."""

from __future__ import annotations

import pytest

from lra.settings import compose
from lra.sweep.job import Job, asked, merged


@pytest.mark.parametrize(
    "typed",
    [
        ["sweep=all", "task=listops", "model=performer", "dry_run=true", "seed=2", "size.dim=32"],
        ["sweep=cost", "task=text", "model=linear", "cost.lengths=[256]", "minutes=3", "results_dir=/some/where"],
        ["task=state", "model=local", "sweep=abilities", "workers=2", "launcher=slurm"],
    ],
)
def test_jobs_are_those_that_hydra_hands_over(typed: list[str]) -> None:
    cfg = compose._hydra(typed, [])
    ours, hydras = merged(typed, cfg.hydra), asked(cfg, cfg.hydra)
    assert ours == hydras and ours is not None
    assert ours.settings == hydras.settings and (ours.settings is not None) == ("dry_run=true" in typed)


def test_what_only_hydra_can_say_is_left_to_it() -> None:
    """A word of Hydra's own counts for all jobs of a sweep, and a bad one is refused before any is begun."""
    typed = ["task=listops", "model=linear"]
    own = compose._hydra([*typed, "hydra.verbose=true"], []).hydra
    usual = compose._hydra(typed, []).hydra
    assert isinstance(merged(typed, usual), Job) and merged(typed, own) is None
    assert merged(["task=listops", "model=linaer"], usual) is None
