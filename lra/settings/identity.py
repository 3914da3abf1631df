"""What makes two runs the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def variant(words: list[str]) -> list[str]:
    """The overrides that make a run another than the budget's standard one, without paths.

    How many threads is a condition, kept in the record with the machine.
    """
    ordinary = {"task", "model", "budget", "threads", *INCIDENTAL}
    kept = []
    for word in sorted(words):
        key, _, value = word.lstrip("+").partition("=")
        if key.split(".")[0] in ("measure", "cost", "wandb", "hydra") or key in ordinary or key.lstrip("~") in ordinary:
            continue
        kept.append(f"{key}={Path(value).name}" if key in ("task.path", "checkpoint") else word)
    return kept


# Parts of the configuration that do not change the experiment, left out of its hash.
INCIDENTAL = ("data_dir", "results_dir", "output_dir", "rerun", "wandb", "sweep", "seed", "name", "claims", "variant")
INCIDENTAL += ("cost", "minutes", "launcher")  # of the sweep that asked for the run, not of the run


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hex digits over the parts of a resolved configuration that shape the experiment."""
    part = {k: v for k, v in config.items() if k not in INCIDENTAL}
    if part.get("checkpoint"):
        part["checkpoint"] = Path(part["checkpoint"]).name
    part["task"] = {k: v for k, v in config.get("task", {}).items() if k not in ("data_dir", "path")}
    text = json.dumps(part, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration without what names places on this machine."""
    kept = {k: v for k, v in config.items() if k not in ("data_dir", "results_dir", "output_dir", "sweep", "launcher")}
    kept["task"] = {k: v for k, v in config.get("task", {}).items() if k != "data_dir"}
    for part, key in ((kept["task"], "path"), (kept, "checkpoint")):
        if part.get(key):
            part[key] = Path(part[key]).name
    return kept
