"""Tables of a data set: from the hub by name, or from a folder laid out as on the hub.

A name goes through `datasets`, which keeps what it fetched below HF_HOME, whole or not at all, and
obeys HF_ENDPOINT and HF_HUB_OFFLINE. A folder's parquet files are read as they stand, because
`datasets` would keep a second copy of them. No token is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from lra.tasks.base import DataError

if TYPE_CHECKING:
    import pyarrow as pa


SPLITS = ("train", "test")
WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before each new attempt
PATIENCE = 30.0  # seconds after which no new attempt is made: huggingface_hub has its own retries
CONNECT_TIMEOUT = 4.0
INSTEAD = "or give a local copy with task.path=FOLDER"

SHARD = re.compile(r"(?P<split>train|test)(-(?P<index>\d+)-of-(?P<count>\d+))?(-[0-9a-f]+)?\.parquet")

log = logging.getLogger(__name__)


class Unreachable(DataError):
    """The hub did not answer, and nothing is cached: another source may be tried."""


def fetch(name: str) -> dict[str, pa.Table]:
    """{"train": table, "test": table} of the hub's data set `name`, fetched unless it is cached.

    Raises DataError, always one line, for an unknown name, no network, HF_HUB_OFFLINE without a
    cached copy, connections that keep failing, and a cache folder that is full or not writable.
    """
    import datasets

    endpoint = datasets.config.HF_ENDPOINT
    with _quiet():
        if datasets.config.HF_HUB_OFFLINE:
            why = f"HF_HUB_OFFLINE is set and {name} is not in the cache ({_cache()}); unset it, {INSTEAD}"
            return _cached(name, why)
        trouble = _unreachable(endpoint)
        if trouble:
            why = f"{endpoint} cannot be reached ({trouble}) and {name} is not in the cache ({_cache()});"
            tables = _cached(name, f"{why} connect, {INSTEAD}")
            log.warning("hub: %s cannot be reached (%s); taking %s from the cache", endpoint, trouble, name)
            return tables
        return _fetch(name, endpoint)


def _fetch(name: str, endpoint: str) -> dict[str, pa.Table]:
    started = time.monotonic()
    for attempt, wait in enumerate((*WAITS, None), start=1):
        try:
            return _load(name)
        except Exception as error:
            permanent = _permanent(error, name, endpoint)
            if permanent:
                raise DataError(f"hub: {permanent}") from error
            if wait is None or time.monotonic() - started > PATIENCE:
                raise Unreachable(
                    f"hub: {name} could not be fetched from {endpoint} in {attempt} attempts"
                    f" (the last: {_first_line(error)}); try again later, {INSTEAD}"
                ) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _load(name: str) -> dict[str, pa.Table]:
    """What `datasets` has under `name`, memory-mapped from its cache."""
    import datasets

    found = datasets.load_dataset(name)
    missing = [s for s in SPLITS if s not in found]
    if missing:
        raise DataError(f"hub: {name} has no split {missing[0]}, only {', '.join(found)}")
    return {split: found[split].with_format("arrow")[:] for split in SPLITS}


def _cached(name: str, why: str) -> dict[str, pa.Table]:
    """The cached copy without a word to the network; Unreachable(why) if there is none."""
    import datasets

    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        return _load(name)
    except DataError:
        raise
    except Exception as error:
        raise Unreachable(f"hub: {why}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def cached(name: str) -> Path | None:
    """The folder in which `datasets` keeps a whole copy of `name`, if it does. Imports nothing."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    folder = Path(os.environ.get("HF_DATASETS_CACHE") or Path(home) / "datasets") / name.replace("/", "___")
    whole = (f.parent for f in folder.expanduser().rglob("dataset_info.json") if ".incomplete" not in f.parent.name)
    return next(whole, None)


def _unreachable(endpoint: str) -> str | None:
    """Why no connection to the endpoint can be opened; None if one can.

    Asked first because huggingface_hub takes 25 s to give up. Behind a proxy it cannot be known.
    """
    url = urlsplit(endpoint)
    if getproxies().keys() & {url.scheme, "all"}:
        return None
    trouble = ""
    for wait in (*WAITS[:2], 0.0):
        try:
            socket.create_connection(
                (url.hostname, url.port or (443 if url.scheme == "https" else 80)), CONNECT_TIMEOUT
            ).close()
            return None
        except OSError as error:
            trouble = error.strerror or str(error)
        time.sleep(wait)
    return trouble


def _permanent(error: Exception, name: str, endpoint: str) -> str | None:
    """A line for what another attempt cannot mend; None for a bad connection, known or not."""
    from datasets import exceptions
    from pyarrow import ArrowInvalid

    for e in _chain(error):
        if isinstance(e, DataError):
            return str(e).removeprefix("hub: ")
        if isinstance(e, exceptions.DatasetNotFoundError):
            return f"{endpoint} has no data set {name} that can be read without a token; check task.hub, {INSTEAD}"
        if isinstance(e, exceptions.DataFilesNotFoundError):
            return f"{name} on {endpoint} holds no data files; check task.hub, {INSTEAD}"
        if isinstance(e, OSError) and e.errno == errno.ENOSPC:
            return f"no space left below {_cache()}; free some or set HF_HOME to another disk"
        if isinstance(e, OSError) and e.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            return f"{e.filename or _cache()} cannot be written or read; set HF_HOME to a folder that can"
        if isinstance(e, ArrowInvalid):
            return f"{name} on {endpoint} cannot be read ({_first_line(e)}); delete it from {_cache()}, {INSTEAD}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _cache() -> str:
    import datasets

    return str(Path(datasets.config.HF_CACHE_HOME).expanduser())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Their log lines never, their progress bars only on a terminal."""
    import datasets
    import huggingface_hub.utils as hub

    levels = datasets.logging.get_verbosity(), hub.logging.get_verbosity()
    datasets.logging.set_verbosity_error()
    hub.logging.set_verbosity(logging.CRITICAL)
    bars = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if bars:
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(levels[0])
        hub.logging.set_verbosity(levels[1])
        if bars:
            datasets.enable_progress_bars()
            hub.enable_progress_bars()


def read(folder: Path) -> dict[str, pa.Table]:
    """{"train": table, "test": table} of the parquet files below `folder`.

    They are named as on the hub: train.parquet or train-00000-of-00002.parquet, in one folder at
    any depth. Raises DataError for a shard that is missing and for a file that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {}
    for split, files in shards(folder).items():
        parts = []
        for file in files:
            try:
                parts.append(pq.read_table(file))
            except (OSError, pa.ArrowException) as error:
                raise DataError(unreadable(file, error)) from error
        try:
            tables[split] = pa.concat_tables(parts)
        except pa.ArrowException as error:
            raise DataError(f"task.path: the {split} files in {files[0].parent} have different columns") from error
    return tables


def shards(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of each split below `folder`, complete and in order. Raises DataError."""
    found: dict[str, dict[Path, re.Match]] = {split: {} for split in SPLITS}
    try:
        for file in sorted(folder.rglob("*.parquet")):
            match = SHARD.fullmatch(file.name)
            if match:
                found[match["split"]][file] = match
    except OSError as error:
        raise DataError(unreadable(folder, error)) from error
    for split, files in found.items():
        if not files:
            raise DataError(f"task.path: {folder} holds no {split}*.parquet")
        if len({f.parent for f in files}) > 1:
            raise DataError(f"task.path: {folder} holds several data sets; give the folder of one of them")
        numbered = sorted((int(m["index"] or 0), int(m["count"] or 1)) for m in files.values())
        if numbered != [(i, len(files)) for i in range(len(files))]:
            raise DataError(f"task.path: {folder} does not hold each shard of {split} once, as their names count them")
    return {split: list(files) for split, files in found.items()}


def unreadable(file: Path, error: Exception) -> str:
    """One line for a file of the user's that cannot be read."""
    if isinstance(error, PermissionError):
        return f"task.path: no permission to read {file}"
    if isinstance(error, FileNotFoundError):
        return f"task.path: {file} does not exist"
    return f"task.path: {file} cannot be read ({_first_line(error)}); it may be cut short: fetch it again"


def require_columns(table: pa.Table, columns: tuple[str, ...], where: str) -> None:
    """Raise DataError unless the table has rows and these columns, without a null in them."""
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise DataError(f"{where}: columns are {', '.join(table.column_names)}; {', '.join(columns)} are needed")
    if not table.num_rows:
        raise DataError(f"{where}: no rows")
    for column in columns:
        if table[column].null_count:
            raise DataError(f"{where}: column {column} has {table[column].null_count} empty cells")


def labels(table: pa.Table, num_classes: int, where: str) -> np.ndarray:
    """Column `label` as int64 (N,), each in [0, num_classes). Raises DataError naming the row."""
    import pyarrow as pa

    column = table["label"]
    if not pa.types.is_integer(column.type):
        raise DataError(f"{where}: label is {column.type}, a whole number from 0 to {num_classes - 1} is needed")
    values = column.to_numpy().astype(np.int64)
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if len(wrong):
        row = wrong[0]
        raise DataError(f"{where}, row {row}: label {values[row]} is not one of 0 to {num_classes - 1}")
    return values
