"""Device, precision and seeds of a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


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
    # As use_deterministic_algorithms does, which loads the compiler to tell it too (lra.train.trainee tells it).
    torch.set_deterministic_debug_mode("warn")
    # Without this, determinism would also fill every fresh tensor, at a cost nobody else pays.
    torch.utils.deterministic.fill_uninitialized_memory = False


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Whatever is drawn inside comes from `seed` alone, and what is drawn afterwards is as if nothing had been:
    to look at a model must not change it."""
    import random

    import torch

    python, arrays = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


def accelerator(device: str, dtype: str) -> Any:
    """Accelerate's view of devices, precision and processes, or that of one process alone; device and dtype:
    resolved."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        import torch

        from lra.machine.alone import Alone

        return Alone(torch.device(device), dtype)
    from accelerate import Accelerator

    return Accelerator(mixed_precision="bf16" if dtype == "bf16" else "no", cpu=device == "cpu")


def resolve_device(device: str) -> str:
    """ "auto" as it turns out here."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """bf16 on CUDA, float32 on CPU, unless asked otherwise. device: resolved."""
    if dtype == "auto":
        return "bf16" if device == "cuda" else "float32"
    return dtype
