"""The conditions of a number: machine, versions, commit, seeds."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lra.machine import company, memory
from lra.machine.watch import load_average
from lra.root import CONFIGS, ROOT

PACKAGES = ("lra", "torch", "accelerate", "datasets", "hydra-core", "numpy", "numba")
CODE = ("lra", "tasks", "models", "configs", "pyproject.toml")


def machine(device: str) -> dict[str, Any]:
    """Names and sizes of what the run ran on."""
    import torch

    gpu = device == "cuda"
    return {
        "device": device,
        "name": torch.cuda.get_device_name() if gpu else cpu_name(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "memory_bytes": memory_bytes(),
        "memory_kept": memory.kept,
        "load_average": load_average(),
        "shared_with": company.shared_with,
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


@cache
def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def digest() -> str:
    """16 hex digits over all Python files of ours: whether two processes run the same code."""
    packages = CODE[:3] if CONFIGS == ROOT / "configs" else CODE[:1]
    found = hashlib.sha256()
    for path in sorted(p for name in packages for p in (ROOT / name).rglob("*.py")):
        found.update(path.relative_to(ROOT).as_posix().encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def commit() -> tuple[str | None, bool | None]:
    """(commit, whether code or configs differ from it); (None, None) outside a checkout."""
    if not (ROOT / ".git").exists():
        return None, None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", *CODE))
    except (OSError, subprocess.SubprocessError):
        return None, None
