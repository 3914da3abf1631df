"""Device, precision and seeds of a process."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """One seed for all random streams; deterministic kernels where torch has them."""
    import random

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


def accelerator(cfg: Any) -> Any:
    """Accelerate's view of devices, precision and processes for this run."""
    from accelerate import Accelerator

    dtype = resolve_dtype(cfg)
    return Accelerator(mixed_precision="bf16" if dtype == "bf16" else "no", cpu=resolve_device(cfg) == "cpu")


def resolve_device(cfg: Any) -> str:
    if cfg.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return cfg.device


def resolve_dtype(cfg: Any) -> str:
    """bf16 on CUDA, float32 on CPU, unless asked otherwise."""
    if cfg.dtype == "auto":
        return "bf16" if resolve_device(cfg) == "cuda" else "float32"
    return cfg.dtype
