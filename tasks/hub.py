"""Tables of a data set from the hub, by name.

A name goes through `datasets`, which keeps what it fetched below HF_HOME, whole or not at all, and
obeys HF_ENDPOINT and HF_HUB_OFFLINE. No token is asked for.
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

from lra.tasks.base import DataError
from lra.tasks.parquet import SPLITS, read, shards

if TYPE_CHECKING:
    import pyarrow as pa


WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before each new attempt
PATIENCE = 30.0  # seconds after which no new attempt is made: huggingface_hub has its own retries
CONNECT_TIMEOUT = 4.0
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
NETWORK = ("http", "requests.", "urllib3", "aiohttp", "anyio")  # how modules begin whose errors are a connection's
BROKEN = ("FileMetadataError", "LocalEntryNotFoundError", "XetDownloadError")  # of huggingface_hub, after bad answers
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers after which a new attempt may succeed
INSTEAD = "or give a local copy with task.path=FOLDER"
REPORT = f"tell whoever keeps it, check task.hub, {INSTEAD}"


log = logging.getLogger(__name__)


class Unreachable(DataError):
    """The hub did not answer, and nothing is cached: another source may be tried."""


def fetch(name: str) -> dict[str, pa.Table]:
    """{"train": table, "test": table} of the hub's data set `name`, fetched unless it is cached.

    Raises DataError, always one line, for an unknown name, no network, HF_HUB_OFFLINE without a
    cached copy, connections that keep failing, and a cache folder that is full or not writable.
    """
    import datasets

    if not NAME.fullmatch(name):
        raise DataError(f"task.hub: {name!r} is not a name of the hub, NAMESPACE/NAME; a folder is given by task.path")
    endpoint = datasets.config.HF_ENDPOINT
    with _quiet():
        if datasets.config.HF_HUB_OFFLINE:
            return _cached(name, "HF_HUB_OFFLINE is set", "unset it")
        trouble = _unreachable(endpoint)
        if trouble:
            tables = _cached(name, f"{endpoint} cannot be reached ({trouble})", "connect")
            log.warning("hub: %s cannot be reached (%s); taking %s from the cache", endpoint, trouble, name)
            return tables
        return _fetch(name, endpoint)


def _fetch(name: str, endpoint: str) -> dict[str, pa.Table]:
    started = time.monotonic()
    for attempt, wait in enumerate((*WAITS, None), start=1):
        try:
            return _load(name)
        except Exception as error:
            if not _transient(error):
                raise DataError(f"hub: {_permanent(error, name, endpoint)}") from error
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

    # It takes a folder of that name, where one is, for what is asked for; and it has loaders with names of their own.
    here = Path(name).exists() or name in getattr(datasets.load, "_PACKAGED_DATASETS_MODULES", ())
    if here and "/" not in name:
        raise DataError(f"hub: {name} is a loader's or a local file's name; give NAMESPACE/NAME by task.hub")
    found = datasets.load_dataset(f"hf://datasets/{name}" if here else name)
    missing = [s for s in SPLITS if s not in found]
    if missing:
        raise DataError(f"hub: {name} has no split {missing[0]}, only {', '.join(found)}")
    return {split: found[split].with_format("arrow")[:] for split in SPLITS}


def _cached(name: str, why: str, mend: str) -> dict[str, pa.Table]:
    """The cached copy without a word to the network: what `datasets` made, else a snapshot of the hub's files.
    Raises Unreachable if there is neither."""
    import datasets
    from huggingface_hub import snapshot_download

    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        return _load(name)
    except DataError:
        raise
    except Exception as error:
        first = error
    finally:
        datasets.config.HF_HUB_OFFLINE = before
    try:
        folder = snapshot_download(name, repo_type="dataset", local_files_only=True)
    except Exception:  # there is none, or a part of one
        raise Unreachable(f"hub: {why} and {name} is not in the cache ({_cache()}); {mend}, {INSTEAD}") from first
    try:
        return read(Path(folder), "hub")
    except DataError as error:
        what = str(error).removeprefix("hub: ")
        raise Unreachable(f"hub: {why} and the cache holds {name} in part ({what}); {mend}, {INSTEAD}") from error


def cached(name: str) -> Path | None:
    """The folder in which `datasets` keeps a whole copy of `name`, or the hub's client files of it, if one does.
    Imports nothing."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    folder = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets") / name.replace("/", "___")
    whole = (f.parent for f in folder.expanduser().rglob("dataset_info.json") if ".incomplete" not in f.parent.name)
    of_client = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"datasets--{name.replace('/', '--')}"
    snapshots = (of_client.expanduser() / "snapshots").glob("*")
    return next(whole, None) or next((f for f in snapshots if _both_splits(f)), None)


def _both_splits(folder: Path) -> bool:
    try:
        return bool(shards(folder))
    except DataError:
        return False


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


def _transient(error: Exception) -> bool:
    """Whether a new attempt may succeed: connections and servers fail for a time, data and disks do not."""
    from datasets import exceptions

    settled = (DataError, exceptions.SplitsVerificationError, exceptions.DatasetNotFoundError)
    chain = list(_chain(error))
    if any(isinstance(e, settled) for e in chain):
        return False
    for e in chain:
        status = getattr(getattr(e, "response", None), "status_code", None)
        if status is not None and status not in AGAIN:
            continue  # such as the 404 of a file that need not be there, after which all else is raised
        if isinstance(e, (ConnectionError, TimeoutError, socket.gaierror)):
            return True
        if any(base.__module__.startswith(NETWORK) for base in type(e).__mro__):
            return True
        if type(e).__name__ in BROKEN or "Consistency check failed" in str(e):
            return True
    return False


def _permanent(error: Exception, name: str, endpoint: str) -> str:
    """A line for what another attempt cannot mend."""
    from datasets import exceptions
    from pyarrow import ArrowInvalid

    chain = list(_chain(error))
    for e in chain:
        if isinstance(e, DataError):
            return str(e).removeprefix("hub: ")
        if isinstance(e, exceptions.SplitsVerificationError):
            return f"the card of {name} on {endpoint} says other splits than its files hold ({_brief(e)}); {REPORT}"
        if isinstance(e, exceptions.DatasetNotFoundError):
            return f"{endpoint} has no data set {name} that can be read without a token; check task.hub, {INSTEAD}"
        if isinstance(e, exceptions.DataFilesNotFoundError):
            return f"{name} on {endpoint} holds no data files; check task.hub, {INSTEAD}"
        if isinstance(e, OSError) and e.errno == errno.ENOSPC:
            return f"no space left below {_cache()}; free some or set HF_HOME to another disk"
        if isinstance(e, OSError) and e.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            return f"{e.filename or _cache()} cannot be written or read; set HF_HOME to a folder that can"
        if isinstance(e, ArrowInvalid):
            return f"{name} on {endpoint} cannot be read ({_first_line(e)}); delete it from {_cache()}, {INSTEAD}"
    return f"{name} on {endpoint} cannot be read ({_brief(error)}); {REPORT}"


def _brief(error: BaseException) -> str:
    """The cause at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


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
