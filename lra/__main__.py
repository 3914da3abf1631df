"""python -m lra task=listops model=performer: one run, or a sweep. `lra VERB …` is `python -m lra.VERB …`."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Any

from lra.errors import UserError, guarded, refuse  # first: it says how idle threads wait, before torch loads
from lra.root import CONFIGS, ROOT

# Hydra then raises its errors instead of printing them, and one line can be made of each.
os.environ["HYDRA_FULL_ERROR"] = "1"


def verbs() -> list[str]:
    """The commands beside a run: every room with a door."""
    doors = (
        p for p in (ROOT / "lra").iterdir() if (p / "__main__.py").is_file() or '__name__ == "__main__"' in _text(p)
    )
    return sorted(p.stem for p in doors if not p.stem.startswith("_"))


def _text(path: Any) -> str:
    return path.read_text() if path.suffix == ".py" else ""


def job(cfg: Any, codes: list[int]) -> Any:
    """What Hydra calls once a job: do the run, or say what a sweep is asked for."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import open_dict

    hydras = HydraConfig.get()
    if hydras.mode == RunMode.MULTIRUN:
        from lra.sweep.job import asked

        return asked(cfg, hydras)
    from lra.settings.compose import folders_of, settled

    with open_dict(cfg):
        cfg.hydra = hydras
    try:
        settings = settled(cfg, folders_of(hydras))
        if settings.minutes is not None:
            raise UserError("minutes: is for a sweep, as python -m lra sweep=paper minutes=30")
        from lra.runner.run import run

        codes.append(run(settings))
    except UserError as error:
        refuse(str(error))  # here, because Hydra would put a line of its own before ours
    return codes[-1]


def say_help() -> None:
    from lra.settings.compose import help_text
    from lra.settings.words import split

    words, config_dir = split([w for w in sys.argv[1:] if w not in ("--help", "-h")])
    print(help_text([w for w in words if not w.startswith("-")], config_dir))


def main() -> None:
    """The command line. Exit codes: 0 ok, 1 a run did not end well, 2 bad input, 130 interrupted."""
    if len(sys.argv) > 1 and sys.argv[1].isidentifier() and sys.argv[1] in verbs():
        import runpy

        verb = sys.argv.pop(1)
        runpy.run_module(f"lra.{verb}", run_name="__main__", alter_sys=True)
        return
    if {"--help", "-h"} & set(sys.argv[1:]):
        guarded(say_help)
    import hydra

    from lra.settings.compose import with_paths
    from lra.settings.explain import explained
    from lra.settings.typed import register

    register()
    codes = [0]

    def entry() -> int:
        words = [part for w in sys.argv for part in (w.split("=", 1) if w.startswith("--config-dir=") else [w])]
        config_dir = next((b for a, b in pairwise(words) if a in ("--config-dir", "-cd")), None)

        sys.argv[1:] = with_paths(sys.argv[1:])

        def call(cfg: Any) -> Any:
            return job(cfg, codes)

        with explained(config_dir):
            hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(call)()
        return codes[-1]

    guarded(entry)


if __name__ == "__main__":
    main()
