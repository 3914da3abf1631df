"""Folders of arrays that are whole or absent: where generated and indexed data live.

A store is a folder with a `manifest.json` that names each file with its size, dtype and shape. It
is built beside its final place and renamed, so that a process killed at any moment leaves nothing
that a later run takes for whole; a lock keeps two processes from building the same one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_dir

from lra.tasks import files
from lra.tasks.base import DataError

MANIFEST = "manifest.json"


def data_dir(given: str | Path | None = None) -> Path:
    """The folder given, else $LRA_DATA, else the user's cache folder."""
    return path(given or os.environ.get("LRA_DATA") or user_cache_dir("lra"), "data_dir (or LRA_DATA)")


def path(given: str | Path, field: str = "task.path") -> Path:
    """A path of the user's, its ~ resolved. Raises DataError for the home of a user that there is not."""
    try:
        return Path(str(given)).expanduser()
    except RuntimeError as error:
        raise DataError(f"{field}: {str(given)[:100]!r}: {error}") from error


def fsync_dir(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def ensure(folder: Path, build: Callable[[Path], dict[str, Any] | None]) -> Path:
    """Return `folder`, building it first if it is not there.

    `build(empty_folder)` writes files (`.npy` for arrays) and may return facts for the manifest.
    Raises DataError in one line for a store that was cut short, a full disk or a folder that
    cannot be written.
    """
    if not (folder / MANIFEST).exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):
                if not (folder / MANIFEST).exists():
                    _build(folder, build)
        except OSError as error:
            raise DataError(explain(error, folder.parent)) from error
    check(folder)
    return folder


def _build(folder: Path, build: Callable[[Path], dict[str, Any] | None]) -> None:
    draft = folder.with_name(f".{folder.name}.draft")
    # A draft that is already there was left by a killed process: the lock is ours.
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir()
    try:
        told = build(draft) or {}
        sizes, sums = {}, {}
        for each in sorted(p for p in draft.rglob("*") if p.is_file()):
            name = each.relative_to(draft).as_posix()
            with each.open("rb") as handle:
                os.fsync(handle.fileno())
                sums[name] = hashlib.file_digest(handle, "sha256").hexdigest()
            sizes[name] = each.stat().st_size
        with (draft / MANIFEST).open("w") as handle:
            json.dump({"files": sizes, "sha256": sums, "facts": told}, handle, indent=1, sort_keys=True)
            handle.flush()
            os.fsync(handle.fileno())
        fsync_dir(draft)
        draft.rename(folder)
        fsync_dir(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def manifest(folder: Path) -> dict[str, Any]:
    """{"files": {name: bytes}, "sha256": {name: hex}, "facts": {...}}. Raises DataError if it cannot be read or
    is anything else."""
    file = folder / MANIFEST
    try:
        found = files.parsed(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); delete {folder} to rebuild it") from error
    if not fits(found, {"files": {"*": int}, "facts": {}}) or not fits(found.get("sha256", {}), {"*": str}):
        raise DataError(f"{file} is not the manifest of a store; delete {folder} to rebuild it")
    if any(size < 0 or Path(name).is_absolute() or ".." in Path(name).parts for name, size in found["files"].items()):
        raise DataError(f"{file} names what cannot be a file of this store; delete {folder} to rebuild it")
    return found


def facts(folder: Path, kind: Mapping[str, Any]) -> dict[str, Any]:
    """What `build` returned for this store, if it `fits` a `kind` such as {"bounds": [int], "content": str}.
    Raises DataError."""
    found = manifest(folder)["facts"]
    if not fits(found, kind):
        raise DataError(
            f"{folder / MANIFEST}: facts are not {', '.join(kind)} of the right type; delete {folder} to rebuild it"
        )
    return found


def fits(value: Any, kind: Any) -> bool:
    """Whether JSON is of a kind: a type; [kind], a list of them; {"key": kind}, a dict with these keys at least;
    {"*": kind}, a dict of them. A bool is no int."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return False
        if "*" in kind:
            return all(fits(each, kind["*"]) for each in value.values())
        return all(key in value and fits(value[key], each) for key, each in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(each, kind[0]) for each in value)
    return type(value) is kind


def check(folder: Path) -> None:
    """Raise DataError if a file is missing or does not have its size."""
    for name, size in manifest(folder)["files"].items():
        file = folder / name
        found = file.stat().st_size if file.exists() else 0
        if found != size:
            raise DataError(f"{file} has {found} bytes instead of {size}; delete {folder} to rebuild it")


def verify(folder: Path) -> int:
    """Read every file and compare its SHA-256; the number of bytes read. Raises DataError as `check` does."""
    check(folder)
    listed = manifest(folder)
    for name, known in listed.get("sha256", {}).items():
        try:
            with (folder / name).open("rb") as handle:
                found = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"{folder / name} cannot be read ({error.strerror}); delete {folder} to rebuild it"
            ) from error
        if found != known:
            raise DataError(f"{folder / name} is not as it was written; delete {folder} to rebuild it")
    return sum(listed["files"].values())


def array(folder: Path, name: str) -> np.ndarray:
    """The array `name` of a store, memory-mapped."""
    try:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder / name}.npy cannot be read ({error}); delete {folder} to rebuild it") from error


def explain(error: OSError, folder: Path) -> str:
    """One line for the user about an OSError met while writing below `folder`."""
    instead = "set data_dir (or LRA_DATA)"
    if error.errno == errno.ENOSPC:
        return f"data_dir: no space left in {folder}; free some or {instead} to another disk"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENOENT):
        return f"data_dir: {folder} cannot be written; {instead} to a folder that can"
    return f"data_dir: {folder}: {error.strerror or error}; {instead} to choose another place"
