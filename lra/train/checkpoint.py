"""Weights on disk: safetensors, which cannot run code, with what they belong to in the header."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lra.errors import UserError


def save(path: Path, state: dict[str, Any], facts: dict[str, str]) -> Path:
    """Write a state dict atomically; `facts` (strings) go into the header."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    save_file(_own(state), str(draft), metadata=facts)
    with draft.open("rb") as handle:
        os.fsync(handle.fileno())
    draft.rename(path)
    return path


def packed(state: dict[str, Any], facts: dict[str, str]) -> bytes:
    """What `save` writes."""
    from safetensors.torch import save as dumped

    return dumped(_own(state), metadata=facts)


def _own(state: dict[str, Any]) -> dict[str, Any]:
    """Each tensor with a storage of its own, which the format asks for."""
    return {k: v.contiguous().clone() for k, v in state.items()}


def load(path: str | Path, model: Any, vocabulary: str) -> dict[str, str]:
    """Load weights into `model`; returns the header. UserError if the file is not whole, was made
    with another token table, or does not fit the model."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint: {path} cannot be read ({str(error).splitlines()[0]})") from error
    if facts.get("vocabulary") != vocabulary:
        raise UserError(
            f"checkpoint: {path} was made with the token table {facts.get('vocabulary')}, this task has {vocabulary}"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"checkpoint: {path} does not fit this model: {lines[min(1, len(lines) - 1)]}") from error
    return facts
