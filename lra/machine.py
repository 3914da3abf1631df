"""The conditions of a number: machine, versions, commit, seeds."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from lra.conditions import load_average

PACKAGES = ("lra", "torch", "accelerate", "datasets", "hydra-core", "numpy", "numba")
CODE = ("lra", "tasks", "models", "configs", "pyproject.toml")


def seed_everything(seed: int) -> None:
    """One seed for all random streams; deterministic kernels where torch has them."""
    import random

    import numpy as np
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    # CPUs take many times longer over numbers below 1e-38, which no result depends on.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Without this, determinism would also fill every fresh tensor, at a cost nobody else pays.
    torch.utils.deterministic.fill_uninitialized_memory = False


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
        "load_average": load_average(),
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


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> tuple[str | None, bool | None]:
    """(commit, whether code or configs differ from it); (None, None) outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", *CODE))
    except (OSError, subprocess.SubprocessError):
        return None, None
