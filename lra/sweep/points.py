"""A point of the cost curves, one model at one length: is it known, what is it, its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lra import console
from lra.errors import UserError
from lra.machine.facts import commit as commit_of
from lra.machine.facts import machine, versions
from lra.machine.memory import keep_freed
from lra.measure.alone import measure
from lra.measure.cost import Cost, failure
from lra.measure.turns import together
from lra.record import record, store
from lra.record.checks import LONGEST_LINE
from lra.settings import again, build, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain
from lra.sweep.largest import largest

CONCLUDED = ("ok", "oom", "timeout")  # what the same command would only repeat
BATCH = {"cpu": 1, "cuda": 32}  # the fixed one, unless cost.batch_size says otherwise
GIB = 2**30
SHARE = 0.9  # of a machine's memory for a measurement on its CPU: so that fails, and not the machine


@dataclass(frozen=True)
class Point:
    """One thing to measure. `batch_size` is null in mode "largest", where it is to be found."""

    settings: Settings
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
        return curve_of(plain(self.settings), self.mode, self.batch_size)


def curve_of(config: Mapping[str, Any], mode: str, batch_size: int | None) -> str:
    """The same from the configuration of a point or of its record."""
    train = {k: config["train"][k] for k in ("grad_clip", "weight_decay", "betas", "eps")}
    timing = {k: config["measure"][k] for k in ("warmup_steps", "steps", "seconds")}
    size = batch_size if mode == "fixed" else {"most": config["cost"]["memory_gib"]}
    model = identity.essential(config["model"], "model.")
    sources = config.get("sources") or {}
    parts = [model, config["task"]["name"], train, timing, config["compile"], mode, size]
    return identity.digest([*parts, sources] if sources else parts)


def only(cost: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record's cost what was measured, without what the sweep has added."""
    return {k: v for k, v in cost.items() if k in Cost.__dataclass_fields__}


def curve_in(r: record.Record) -> str | None:
    """The curve that a record is a point of; null where it does not say enough to tell."""
    try:
        return curve_of(r.config, r.cost["mode"], r.batch_size)
    except (KeyError, TypeError):
        return None


class Bench:
    """The machine that measures, and the points that it has records of.

    `settings` are any model's of the sweep: what is read of it (device, threads, folder, limits) all share.
    """

    def __init__(self, settings: Settings) -> None:
        import torch

        from lra.machine.device import resolve_device, resolve_dtype

        self.results, self.cap, self.seed = (
            Path(settings.results_dir),
            float(settings.cost.point_seconds),
            settings.seed,
        )
        self.device = resolve_device(settings.device)
        self.dtype = resolve_dtype(settings.dtype, self.device)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda is not available here; use device=cpu or device=auto")
        keep_freed()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.machine = machine(self.device)
        self.batch_size = settings.cost.batch_size or BATCH[self.device]
        self.limit = self.memory_limit(settings.cost.memory_gib)
        old = [] if settings.rerun == "all" else store.find(settings.results_dir, settings.choices.task)
        wanted = ("ok",) if settings.rerun == "failed" else record.STATUSES
        self.known = [(curve_in(r), r) for _, r in old if r.kind == "cost" and r.status in wanted and self.here(r)]

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
        same = same and self.machine["memory_kept"] == bool(r.machine.get("memory_kept"))
        # With more time to spend, a point that took too long may be measured after all.
        patient = r.status != "timeout" or r.cost["point_seconds"] >= self.cap
        return same and patient and r.dtype == self.dtype and r.status in CONCLUDED

    def recorded(self, point: Point) -> record.Record | None:
        """The newest record that measuring the point would only repeat."""
        found = (r for curve, r in reversed(self.known) if curve == point.curve and r.length == point.length)
        return next(found, None)

    def take(self, points: list[Point], **facts: Any) -> list[record.Record | UserError]:
        """Measure the points, taking turns, and write their records, `facts` among their costs.

        In place of a record a UserError, where the task or the model does not take the length or the
        sizes. On a GPU, whose clock keeps its own pace, and in search of the largest batch each point
        has the machine to itself.
        """
        done: list[Any] = [self.refusal(p) or self.hopeless(p) for p in points]
        shared = [i for i, p in enumerate(points) if done[i] is None and p.batch_size and self.device == "cpu"]
        configs = [plain(self.sized(points[i], points[i].batch_size)) for i in shared]
        for i, cost in zip(shared, together(configs, self.cap, self.seed), strict=True):
            done[i] = cost
        return [d if isinstance(d, UserError) else self.taken(p, d, **facts) for p, d in zip(points, done, strict=True)]

    def refusal(self, point: Point) -> UserError | None:
        """Why the point cannot be measured at all."""
        try:
            sized = self.sized(point, 1)
            build.outline(sized, build.task(sized))
        except UserError as error:
            return error
        return None

    def taken(self, point: Point, cost: Cost | None, **facts: Any) -> record.Record:
        """The record of the point, written; without its cost it is measured now."""
        started, run_id = store.new_id()
        tried: dict[int, str] = {}
        cost = cost or self.measured(point, tried)
        batch_size = cost.batch_size or point.batch_size or next(reversed(tried), None)
        config, (commit, dirty) = plain(self.sized(point, batch_size)), commit_of()
        more = {"mode": point.mode, "curve": point.curve, "point_seconds": self.cap, "tried": tried}
        new = record.Record(
            run_id=run_id,
            started_utc=started,
            kind="cost",
            status=cost.status,
            reason=cost.reason if cost.reason is None else console.line(cost.reason)[:LONGEST_LINE],
            task=point.settings.choices.task,
            model=point.settings.choices.model,
            budget=point.settings.budget,
            row=f"{point.settings.task['name']}-{point.length}",
            seed=point.settings.seed,
            config=identity.portable(config),
            config_hash=identity.digest([point.curve, point.length]),
            variant=list(point.settings.variant),
            parameters=cost.parameters,
            length=point.length,
            batch_size=batch_size,
            dtype=self.dtype,
            cost=cost.asdict() | more | facts,
            machine=self.machine,
            versions=versions(),
            commit=commit,
            dirty=dirty,
            command=self.command(point),
        )
        store.write(self.results, new)
        self.known.append((point.curve, new))
        return new

    def command(self, point: Point) -> str | None:
        """Of the sweep that has this point alone."""
        one = {"cost.lengths": f"[{point.length}]", "cost.modes": f"[{point.mode}]"}
        if point.mode == "fixed":
            one["cost.batch_size"] = point.batch_size
        return again.command(
            point.settings, one | {"device": self.device, "dtype": self.dtype, "threads": self.machine["threads"]}
        )

    def hopeless(self, point: Point) -> Cost | None:
        """What is known of a point without measuring it: that a shorter one is already too much."""
        for status, text in (("oom", "do not fit"), ("timeout", "take too long")):
            lengths = [r.length for curve, r in self.known if curve == point.curve and r.status == status]
            if lengths and min(lengths) < point.length:
                return failure(status, f"{min(lengths):,} tokens already {text}")
        return None

    def sized(self, point: Point, batch_size: int | None) -> Settings:
        """The settings of a run whose exam has the point's length."""
        settings = point.settings
        limit = self.spare if settings.measure.memory_limit_gib is None else settings.measure.memory_limit_gib
        measure = replace(settings.measure, batch_size=batch_size, memory_limit_gib=limit)
        return replace(settings, task={**settings.task, "max_len": point.length}, measure=measure)

    def measured(self, point: Point, tried: dict[int, str]) -> Cost:
        """The cost at the point's batch size, or at the largest that fits; `tried` gets the status
        of every size that was measured."""

        def at(batch_size: int) -> Cost:
            found = measure(plain(self.sized(point, batch_size)), timeout=self.cap)
            if point.mode == "largest" and found.ok and found.total_bytes > self.limit:
                found = failure(
                    "oom", f"takes {console.size(found.total_bytes)}, allowed are {console.size(self.limit)}"
                )
            tried[batch_size] = found.status
            return found

        if point.batch_size is not None:
            return at(point.batch_size)
        known = self.recorded(replace(point, mode="fixed", batch_size=self.batch_size))
        return largest(at, self.limit, self.batch_size, Cost.of(only(known.cost)) if known else None)
