"""The results folder that a command names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lra.errors import UserError, nearest
from lra.settings.words import split, taken


def options(words: Sequence[str], also: Sequence[str] = ()) -> dict[str, str]:
    """The `key=value` words of a command that reads records, over their defaults; UserError for another key.
    `--config-dir` is left to `config_dir`. also: what the command has taken out of its words already."""
    chosen = {"results_dir": os.environ.get("LRA_RESULTS", "results")}
    for word in split(words)[0]:
        key, equals, value = word.partition("=")
        if not equals or key not in chosen:
            names = ", ".join(f"{name}=…" for name in also)
            allowed = f"results_dir=A,B…{f', {names}' * bool(names)}"
            raise UserError(f"{word!r} is not an option; allowed: {allowed}{nearest(key, [*chosen, *also])}")
        chosen[key] = value
    return chosen


def results_dirs(words: Sequence[str], also: Sequence[str] = ()) -> list[Path]:
    """The folders that `results_dir=a,b` or `results_dir=[a,b]` names; what is published lies in the first.

    UserError for one that holds no records.
    """
    given = options(words, also)["results_dir"]
    # Not pathlib's, which raises for a user that is not there.
    folders = [Path(os.path.expanduser(name)) for name in _names(given)]  # noqa: PTH111
    for folder in folders:
        if not (folder / "runs").is_dir():
            raise UserError(f"results_dir: {folder} has no folder runs; make a run first: python -m lra task=listops")
    return folders


def _names(given: str) -> list[str]:
    """A folder may have a comma in its name."""
    whole = Path(os.path.expanduser(given))  # noqa: PTH111
    if "," not in given or (whole / "runs").is_dir():
        return [given]
    inside = given[1:-1] if given.startswith("[") and given.endswith("]") else given
    names = [name.strip() for name in inside.split(",")]
    if not all(names):
        raise UserError(f"results_dir: {given!r} is not a list of folders, as results_dir=a,b")
    return list(dict.fromkeys(names))


def out(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder, or the file, that `out=` names, and the other words."""
    given, rest = taken(words, ("out",))
    if given.get("out") == "":
        raise UserError("out: is empty; allowed: a folder, or a file")
    return (Path(os.path.expanduser(given["out"])) if given else None), rest  # noqa: PTH111


def config_dir(words: Sequence[str]) -> Path | None:
    """The folder with files of one's own that `--config-dir` names. UserError if there is none."""
    folder = split(words)[1]
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--config-dir: {folder} is not a folder")
    return None if folder is None else Path(folder)


def published(name: str, folder: Path, content: Mapping[str, bytes]) -> None:
    """Replace files of a folder, each whole or not at all, and none before there is room for all of them.

    name: of the option that chose the folder. Raises UserError, after which all stand as they were.
    """
    drafts = {file: (folder / file).with_name(f".{Path(file).name}.{os.getpid()}.draft") for file in content}
    try:
        for file, draft in drafts.items():
            draft.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as handle:
                handle.write(content[file])
                handle.flush()
                os.fsync(handle.fileno())
        for file, draft in drafts.items():
            draft.replace(folder / file)
    except OSError as error:
        raise UserError(f"{name}: {folder} cannot be written ({error.strerror}); nothing there was changed") from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def unpublished(folder: Path, content: Mapping[str, bytes]) -> str:
    """What `published` would do to the files of a folder, which it is said instead of."""
    state = {}
    for file, given in content.items():
        path = folder / file
        state[file] = "new" if not path.is_file() else "as it is" if path.read_bytes() == given else "changed"
    lines = [f"would be {what}: {folder / file}" for file, what in state.items() if what != "as it is"]
    counts = ", ".join(
        f"{n} {what}" for what in ("new", "changed", "as it is") if (n := list(state.values()).count(what))
    )
    return "\n".join([*lines, f"nothing was written: {counts or 'no file'}, in {folder}"])


def writable(name: str, folder: Path) -> None:
    """Refuse a folder that cannot take the result before hours are spent on making it."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"lra")
    except OSError as error:
        raise UserError(f"{name}: {folder} cannot be written ({error.strerror}); choose another folder") from error
    finally:
        with suppress(OSError):  # a disk that is full may have taken its name
            probe.unlink(missing_ok=True)
