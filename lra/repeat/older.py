"""The command of a record that holds none, from its configuration, wherever today's settings compose the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lra.errors import UserError
from lra.record.record import Record
from lra.settings import again, compose, identity
from lra.settings.schema import CONDITION, EXPERIMENT, Settings, kind_of
from lra.settings.typed import plain
from lra.settings.words import quoted

TOLD = ("seed", "choices", "sources", "variant", "words", "revision", "device", "dtype", "threads")


def worked_out(record: Record, config_dir: str | None = None) -> str:
    """Raises UserError, in a line, where what composes today is another run."""
    if record.kind not in ("model", "floor", "cost"):
        raise UserError(f"{record.run_id}: is a {record.kind} record, which holds no command; see python -m lra.treat")
    start = [f"task={record.task}", f"budget={record.budget}"]
    if record.kind == "floor":
        return _of_rules(record, start, config_dir)
    sweep = ["sweep=cost"] * (record.kind == "cost")
    words = [*start, f"model={record.model}", f"seed={record.seed}", *sweep, *record.variant]
    settings = _composed(record, words, config_dir)
    if more := list(_departing(record.config, plain(settings), record.kind == "cost")):
        settings = _composed(record, [*words, *more], config_dir)
    if record.kind == "cost":
        one = {"cost.lengths": f"[{record.length}]", "cost.modes": f"[{record.cost.get('mode', 'fixed')}]"}
        if record.cost.get("mode") == "fixed":
            one["cost.batch_size"] = record.batch_size
        return again.command(settings, one | _conditions(record))
    if identity.identity(plain(settings)) != identity.identity(record.config):
        raise UserError(f"{record.run_id}: {_lost(record, settings)}, so that no command of today's repeats it")
    steps = record.steps_budget if record.minutes else None
    return again.command(settings, _conditions(record), steps, record.machine.get("processes") or 1)


def _composed(record: Record, words: list[str], config_dir: str | None) -> Settings:
    try:
        return compose.config(words, config_dir)
    except UserError as error:
        raise UserError(f"{record.run_id}: holds no command, and today's settings refuse its own: {error}") from error


def _of_rules(record: Record, start: list[str], config_dir: str | None) -> str:
    settings = _composed(record, start, config_dir)
    task = {"task": record.config.get("task", {})}
    if more := list(_departing(task, {"task": plain(settings)["task"]})):
        settings = _composed(record, [*start, *more], config_dir)
    return again.rules(settings)


def _conditions(record: Record) -> dict[str, Any]:
    machine = record.machine
    return {"device": machine.get("device"), "dtype": record.dtype, "threads": machine.get("threads")}


def _departing(config: Mapping[str, Any], today: Mapping[str, Any], cost: bool = False) -> Iterator[str]:
    """Words for what a configuration holds otherwise than what composes today: values of what is there in both, what
    shapes a result or its costs."""
    ours = dict(_flat(today))
    sized = ("task.max_len", "measure.batch_size", "measure.memory_limit_gib") if cost else ()
    for name, value in _flat(config):
        if name.split(".")[0] in TOLD or name in sized or name.endswith(("_target_", "_partial_")):
            continue
        counts = name.startswith("run.") or _kind(name) in (EXPERIMENT, CONDITION)
        if counts and name in ours and value != ours[name]:
            yield f"{name}={_value(value)}"


def _kind(name: str) -> str | None:
    try:
        return kind_of(name)
    except KeyError:  # there was such an option
        return None


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def _value(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else identity.word(value)


def _lost(record: Record, settings: Settings) -> str:
    """What of a configuration nothing composes any more."""
    ours = dict(_flat(plain(settings)))
    theirs = dict(_flat(record.config))
    lost = sorted(n for n in theirs if n.split(".")[0] not in TOLD and n not in ours and _kind(n) == EXPERIMENT)
    moved = [f"revision.{k}" for k, v in (record.config.get("revision") or {}).items() if v != ours[f"revision.{k}"]]
    sources = ["the source of a class of its own"] * (dict(record.config.get("sources") or {}) != settings.sources)
    return f"it was made with other {', '.join([*moved, *lost, *sources]) or 'settings'}"
