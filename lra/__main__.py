"""python -m lra task=listops model=performer: one run, or a sweep."""

from __future__ import annotations

import os

# Spinning OpenMP threads make a step 3 to 5 times slower on busy cores. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Hydra then raises its errors instead of printing them, and one line can be made of each.
os.environ["HYDRA_FULL_ERROR"] = "1"

import sys
from itertools import pairwise
from typing import Any

import hydra

from lra.compose import CONFIGS, explained, named
from lra.errors import UserError, guarded, refuse
from lra.settings import register


def job(cfg: Any) -> Any:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import open_dict

    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        from lra.sweep import child

        return child(cfg, settings)
    with open_dict(cfg):
        cfg.hydra = settings
    from lra.runner import run

    try:
        cfg = named(cfg)
        if cfg.minutes is not None:
            raise UserError("minutes: is for a sweep, as python -m lra sweep=paper minutes=30")
        job.code = run(cfg)
    except UserError as error:
        refuse(str(error))  # here, because Hydra would put a line of its own before ours
    return job.code


job.code = 0


def main() -> None:
    """The command line. Exit codes: 0 ok, 1 a run did not end well, 2 bad input, 130 interrupted."""
    register()

    def entry() -> int:
        words = [part for w in sys.argv for part in (w.split("=", 1) if w.startswith("--config-dir=") else [w])]
        config_dir = next((b for a, b in pairwise(words) if a in ("--config-dir", "-cd")), None)
        with explained(config_dir):
            hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(job)()
        return job.code

    guarded(entry)


if __name__ == "__main__":
    main()
