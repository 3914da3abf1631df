"""A small trained model that kept its weights, and treatments of it without a process for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lra.measure.cost import LEAST_STEPS
from lra.runner.run import recorded
from lra.settings.compose import config
from lra.treat import child, derive
from lra.treat.asked import asked

WORDS = [
    "task=shift", "task.max_len=12", "task.by=5", "task.values=4", "task.sizes=[40,120]", "size.depth=2", "size.dim=32",
    "size.qkv_dim=32", "size.mlp_dim=64", "size.heads=4", "train.steps=120", "train.eval_every=60",
    "train.batch_size=32", "train.learning_rate=3e-3", "measure.enabled=false", "measure.seconds=0.5", "keep=best",
]  # fmt: skip


def places(folder: Path) -> list[str]:
    return [f"data_dir={folder / 'data'}", f"results_dir={folder / 'results'}"]


def trained(folder: Path, *more: str) -> Any:
    """The record of a parent, which stands above its floor but for what `more` says."""
    return recorded(config([*WORDS, *places(folder), f"output_dir={folder / 'out'}", *more]))


class Here:
    """In the place of lra.treat.derive.Treating: the same work in this process."""

    def __init__(self, work: dict[str, Any], _: float) -> None:
        self.work, self.asked = work, 0

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def send(self, _: Any) -> None: ...

    def receive(self) -> Any:
        self.asked += 1
        return None if self.asked > LEAST_STEPS else {"steps": 1, "seconds": 0.0}

    def prepare(self) -> bool:
        self.answer = child.done(child.Work(**self.work), self)
        return False

    def lost(self) -> None:
        return None


def treat(monkeypatch: Any, folder: Path, record: str, *words: str) -> Any:
    """The derived record, made here."""
    monkeypatch.setattr(derive, "Treating", Here)
    return derive.derived(asked([f"record={record}", *words, *places(folder)]))[0]
