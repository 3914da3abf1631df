"""A point of the cost curves, one model at one length: is it known, what is it, its record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lra import console
from lra.errors import UserError
from lra.machine.facts import commit as commit_of
from lra.machine.facts import machine, versions
from lra.measure.alone import measure
from lra.measure.session import failure
from lra.measure.turns import together
from lra.record import record, store
from lra.settings import build, compose, identity
from lra.sweep.largest import largest, total

FINAL = ("ok", "oom", "timeout")  # what the same command would only repeat
BATCH = {"cpu": 1, "cuda": 32}  # the fixed one, unless cost.batch_size says otherwise
GIB = 2**30
SHARE = 0.9  # of a machine's memory for a measurement on its CPU: so that fails, and not the machine


@dataclass(frozen=True)
class Point:
    """One thing to measure. `batch_size` is null in mode "largest", where it is to be found."""

    cfg: Any
    label: str  # of the model, as tables have it
    length: int
    mode: str
    batch_size: int | None

    @property
    def where(self) -> str:
        """Length and batch, as progress lines have them."""
        size = "the largest batch" if self.batch_size is None else f"batch {self.batch_size}"
        return f"{self.length:,} tokens, {size}"

    def __str__(self) -> str:
        return f"{self.label}, {self.where}"

    @cached_property
    def curve(self) -> str:
        """16 hex digits over what shapes the cost at every length: points of equal curves, and only
        they, differ in their length alone."""
        plain = compose.plain(self.cfg)
        train = {k: plain["train"][k] for k in ("grad_clip", "weight_decay", "betas", "eps")}
        timing = {k: plain["measure"][k] for k in ("warmup_steps", "steps", "seconds")}
        size = self.batch_size if self.mode == "fixed" else {"most": plain["cost"]["memory_gib"]}
        parts = [plain["model"], plain["task"]["name"], train, timing, plain["compile"], self.mode, size]
        return digest(parts)


def digest(parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Bench:
    """The machine that measures, and the points that it has records of.

    `cfg` is any model's of the sweep: what is read of it (device, threads, folder, limits) all share.
    """

    def __init__(self, cfg: Any) -> None:
        import torch

        from lra.machine.device import resolve_device, resolve_dtype

        self.results, self.cap, self.seed = Path(cfg.results_dir), float(cfg.cost.point_seconds), cfg.seed
        self.device, self.dtype = resolve_device(cfg), resolve_dtype(cfg)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda is not available here; use device=cpu or device=auto")
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        self.machine = machine(self.device)
        self.batch_size = cfg.cost.batch_size or BATCH[self.device]
        self.limit = self.memory_limit(cfg.cost.memory_gib)
        old = [] if cfg.rerun else store.find(cfg.results_dir, cfg.choices.task)
        self.known = [r for _, r in old if r.kind == "cost" and self.here(r)]

    def memory_limit(self, gib: float | None) -> int | None:
        """Bytes that the largest batch may take, or None: then none is looked for."""
        own = self.machine["memory_bytes"]
        self.spare = round(SHARE * own / GIB, 1) if own and self.device == "cpu" else None
        if gib is not None:
            if self.spare is not None and gib > self.spare:
                raise UserError(f"cost.memory_gib: {gib} is more than can be measured here, {self.spare}")
            return int(gib * GIB)
        if self.device == "cuda":
            import torch

            return torch.cuda.get_device_properties(0).total_memory
        return None

    def here(self, r: record.Record) -> bool:
        """Is it final, and of these conditions? Another machine's cost says nothing of this one's."""
        same = all(self.machine[k] == r.machine.get(k) for k in ("device", "name", "threads"))
        # With more time to spend, a point that took too long may be measured after all.
        patient = r.status != "timeout" or r.cost["point_seconds"] >= self.cap
        return same and patient and r.dtype == self.dtype and r.status in FINAL

    def recorded(self, point: Point) -> record.Record | None:
        """The newest record that measuring the point would only repeat."""
        found = (r for r in reversed(self.known) if r.cost["curve"] == point.curve and r.length == point.length)
        return next(found, None)

    def take(self, points: list[Point], **facts: Any) -> list[record.Record | UserError]:
        """Measure the points, taking turns, and write their records, `facts` among their costs.

        In place of a record a UserError, where the task or the model does not take the length or the
        sizes. On a GPU, whose clock keeps its own pace, and in search of the largest batch each point
        has the machine to itself.
        """
        done: list[Any] = [self.refusal(p) or self.hopeless(p) for p in points]
        shared = [i for i, p in enumerate(points) if done[i] is None and p.batch_size and self.device == "cpu"]
        configs = [compose.plain(self.sized(points[i], points[i].batch_size)) for i in shared]
        for i, cost in zip(shared, together(configs, self.cap, self.seed), strict=True):
            done[i] = cost
        return [d if isinstance(d, UserError) else self.taken(p, d, **facts) for p, d in zip(points, done, strict=True)]

    def refusal(self, point: Point) -> UserError | None:
        """Why the point cannot be measured at all."""
        from lra.runner.phases import outline

        try:
            sized = self.sized(point, 1)
            outline(SimpleNamespace(cfg=sized, exam=build.task(sized)))
        except UserError as error:
            return error
        return None

    def taken(self, point: Point, cost: dict[str, Any] | None, **facts: Any) -> record.Record:
        """The record of the point, written; without its cost it is measured now."""
        started, run_id = store.new_id()
        tried: dict[int, str] = {}
        cost = cost or self.measured(point, tried)
        batch_size = cost.get("batch_size") or point.batch_size or next(reversed(tried), None)
        config, (commit, dirty) = compose.plain(self.sized(point, batch_size)), commit_of()
        more = {"mode": point.mode, "curve": point.curve, "point_seconds": self.cap, "tried": tried}
        new = record.Record(
            run_id=run_id,
            started_utc=started,
            kind="cost",
            status=cost["status"],
            reason=cost["reason"],
            task=point.cfg.choices.task,
            model=point.cfg.choices.model,
            budget=point.cfg.budget,
            row=f"{point.cfg.task.name}-{point.length}",
            seed=point.cfg.seed,
            config=identity.portable(config),
            config_hash=digest([point.curve, point.length]),
            variant=list(point.cfg.variant),
            parameters=cost.get("parameters"),
            length=point.length,
            batch_size=batch_size,
            dtype=self.dtype,
            cost=cost | more | facts,
            machine=self.machine,
            versions=versions(),
            commit=commit,
            dirty=dirty,
        )
        store.write(self.results, new)
        self.known.append(new)
        return new

    def hopeless(self, point: Point) -> dict[str, Any] | None:
        """What is known of a point without measuring it: that a shorter one is already too much."""
        for status, text in (("oom", "do not fit"), ("timeout", "take too long")):
            lengths = [r.length for r in self.known if r.cost["curve"] == point.curve and r.status == status]
            if lengths and min(lengths) < point.length:
                return failure(status, f"{min(lengths):,} tokens already {text}")
        return None

    def sized(self, point: Point, batch_size: int | None) -> Any:
        """The configuration of a run whose exam has the point's length."""
        cfg = point.cfg.copy()
        cfg.task.max_len, cfg.measure.batch_size = point.length, batch_size
        if cfg.measure.memory_limit_gib is None:
            cfg.measure.memory_limit_gib = self.spare
        return cfg

    def measured(self, point: Point, tried: dict[int, str]) -> dict[str, Any]:
        """The cost at the point's batch size, or at the largest that fits; `tried` gets the status
        of every size that was measured."""

        def at(batch_size: int) -> dict[str, Any]:
            found = measure(compose.plain(self.sized(point, batch_size)), timeout=self.cap)
            if point.mode == "largest" and found["status"] == "ok" and total(found) > self.limit:
                found = failure("oom", f"takes {console.size(total(found))}, allowed are {console.size(self.limit)}")
            tried[batch_size] = found["status"]
            return found

        if point.batch_size is not None:
            return at(point.batch_size)
        known = self.recorded(replace(point, mode="fixed", batch_size=self.batch_size))
        return largest(at, self.limit, self.batch_size, known.cost if known else None)
