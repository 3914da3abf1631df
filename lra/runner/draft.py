"""What a run knows so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lra.machine import facts
from lra.record.record import Record
from lra.settings import compose, identity


@dataclass
class Run:
    """What a run knows so far; whatever ends it, this becomes the record."""

    cfg: Any
    started_utc: str
    run_id: str
    exam: Any = None
    facts: dict[str, Any] = field(default_factory=dict)  # fields of the record
    wall: dict[str, float] = field(default_factory=dict)
    predictions: bytes | None = None
    mirror: Any = None

    def record(self, status: str, reason: str | None = None) -> Record:
        cfg, config = self.cfg, compose.plain(self.cfg)
        commit, dirty = facts.commit()
        return Record(
            **{
                "run_id": self.run_id,
                "started_utc": self.started_utc,
                "kind": "model",
                "status": status,
                "reason": reason,
                "task": cfg.choices.task,
                "model": cfg.choices.model,
                "budget": cfg.budget,
                "row": self.exam.row,
                "seed": cfg.seed,
                "config": identity.portable(config),
                "config_hash": identity.config_hash(config),
                "variant": list(cfg.variant),
                "length": self.exam.max_len,
                "batch_size": cfg.train.batch_size,
                "steps_budget": cfg.train.steps,
                "versions": facts.versions(),
                "commit": commit,
                "dirty": dirty,
                "wall_seconds": {k: round(v, 3) for k, v in self.wall.items()},
            }
            | self.facts
        )
