"""python -m lra task=listops model=performer: one run, or a sweep. `lra VERB …` is `python -m lra.VERB …`."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Any

from lra.errors import (  # first: it says how idle threads wait, before torch loads
    UserError,
    guarded,
    interrupted,
    refuse,
)
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
    from lra.settings.compose import folders_of, of_hydra, settled
    from lra.settings.explain import explained

    with open_dict(cfg):
        cfg.hydra = hydras
    try:
        folders = folders_of(hydras)
        with explained(next(iter(folders), None)):
            settings = settled(of_hydra(cfg), folders)
        if settings.minutes is not None:
            raise UserError("minutes: is for a sweep, as python -m lra sweep=paper minutes=30")
        if settings.workers > 1 or settings.devices:
            raise UserError("workers, devices: are for a sweep, as python -m lra sweep=all workers=2")
        if settings.dry_run:
            from lra.sweep.dry import of_run

            print(of_run(settings))
            return 0
        codes.append(run(settings))
    except UserError as error:
        refuse(str(error))  # here, because Hydra would put a line of its own before ours
    except KeyboardInterrupt:
        interrupted()  # and here it would look for what the job has returned
    return codes[-1]


def run(settings: Any) -> int:
    """The exit code of a run, which lives in a process of its own; so does each of several that share one."""
    from lra.runner.keeper import kept

    return kept(settings).code


def say_help() -> None:
    from lra.settings.compose import help_text
    from lra.settings.words import split

    words, config_dir = split([w for w in sys.argv[1:] if w not in ("--help", "-h")])
    print(help_text([w for w in words if not w.startswith("-")], config_dir))


def say_version() -> None:
    from importlib import metadata

    try:
        print(f"lra {metadata.version('lra')}")
    except metadata.PackageNotFoundError:
        print("lra (a checkout that is not installed)")


def main() -> None:
    """The command line. Exit codes: 0 ok, 1 a run did not end well, 2 bad input, 130 interrupted."""
    if len(sys.argv) > 1 and sys.argv[1].isidentifier() and sys.argv[1] in verbs():
        import runpy

        verb = sys.argv.pop(1)
        runpy.run_module(f"lra.{verb}", run_name="__main__", alter_sys=True)
        return
    if "--version" in sys.argv[1:]:
        guarded(say_version)
    if {"--help", "-h"} & set(sys.argv[1:]):
        guarded(say_help)
    guarded(typed_run)


def typed_run() -> int:
    """What the words of the command line ask Hydra for: a run, or the jobs of a sweep."""
    import hydra

    from lra.settings.explain import explained
    from lra.settings.typed import register
    from lra.settings.words import as_typed

    register()
    codes = [0]
    words = [part for w in sys.argv for part in (w.split("=", 1) if w.startswith("--config-dir=") else [w])]
    config_dir = next((b for a, b in pairwise(words) if a in ("--config-dir", "-cd")), None)

    def call(cfg: Any) -> Any:
        return job(cfg, codes)

    sys.argv[1:] = as_typed(["dry_run=true" if word == "--dry-run" else word for word in sys.argv[1:]])
    with explained(config_dir):
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(call)()
    return codes[-1]


if __name__ == "__main__":
    main()
