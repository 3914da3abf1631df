"""The results folder that a command names."""

from __future__ import annotations

import os
from pathlib import Path

from lra.errors import UserError, nearest
from lra.settings.words import split


def options(words: list[str]) -> dict[str, str]:
    """The `key=value` words of a command that reads records, over their defaults; UserError for another key.
    `--config-dir` is left to `config_dir`."""
    chosen = {"results_dir": os.environ.get("LRA_RESULTS", "results")}
    for word in split(words)[0]:
        key, equals, value = word.partition("=")
        if not equals or key not in chosen:
            raise UserError(f"{word!r} is not an option; allowed: results_dir=…{nearest(key, chosen)}")
        chosen[key] = value
    return chosen


def results_dir(words: list[str]) -> Path:
    folder = Path(options(words)["results_dir"]).expanduser()
    if not (folder / "runs").is_dir():
        raise UserError(f"results_dir: {folder} has no folder runs; make a run first: python -m lra task=listops")
    return folder


def config_dir(words: list[str]) -> Path | None:
    """The folder with files of one's own that `--config-dir` names. UserError if there is none."""
    folder = split(words)[1]
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--config-dir: {folder} is not a folder")
    return None if folder is None else Path(folder)


def writable(name: str, folder: Path) -> None:
    """Refuse a folder that cannot take the result before hours are spent on making it."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"lra")
        probe.unlink()
    except OSError as error:
        raise UserError(f"{name}: {folder} cannot be written ({error.strerror}); choose another folder") from error
