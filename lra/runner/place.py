"""Where a run is kept while it has no record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lra.settings import identity
from lra.settings.schema import Settings
from lra.settings.typed import plain


def folder(settings: Settings, device: str, dtype: str) -> Path:
    """Where a run is kept while it has no record; device and dtype: resolved. Seen by all who share `results_dir`."""
    same = f"{identity.identity(plain(settings))} {settings.seed} {device} {dtype}"
    name = f"{settings.choices.task}-{settings.choices.model}-s{settings.seed}"
    return Path(settings.results_dir) / "unfinished" / f"{name}-{hashlib.sha256(same.encode()).hexdigest()[:16]}"
