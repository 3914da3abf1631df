"""What of a repeated run agrees to the bit, what does not, and what may be why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lra import console
from lra.machine import facts
from lra.record.record import Record
from lra.repeat import code

ALWAYS = ("row", "parameters", "active_parameters", "state_floats", "items_valid", "items_test", "steps_budget")
LEARNT = ("status", "steps_done", "best_step", "accuracy_valid", "accuracy_test", "loss_test")
ARITHMETIC = ("torch", "numpy", "accelerate")  # libraries whose versions may change a bit
TIMES = ("seconds", "core_seconds")
CONDITIONS = {"device": "device", "name": "processor", "threads": "threads", "processes": "processes"}


@dataclass
class Findings:
    """same: names of what agrees. wrong: of what does not and should. other: of what does not and need not, for the
    reasons. each: what does not agree, as "recorded -> repeated"."""

    same: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    each: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, old: Record, new: Record, changed: Sequence[str] | None = ()) -> Findings:
        """changed: files that compute and are not as they were; null where that cannot be told."""
        why = reasons(old, new)
        out = cls(reasons=why)
        for name, a, b, always in compared(old, new):
            if a is None or a == {} or a == []:
                continue  # an older record that does not say it
            if a == b:
                out.same.append(name)
                continue
            (out.wrong if always or not why else out.other).append(name)
            out.each[name] = f"{_shown(a)} -> {_shown(b)}"
        if changed:
            out.notes.append(f"the code that computes is not as it was: {code.shown(changed)}")
        if old.dirty:
            out.notes.append("the record was made with edited code, which its commit does not have")
        out.notes += list(_costs(old, new))
        return out

    @property
    def good(self) -> bool:
        return not self.wrong

    def lines(self) -> Iterator[str]:
        yield f"agree to the bit: {', '.join(self.same) or 'nothing'}"
        for title, names in (("differ, and should not", self.wrong), ("differ", self.other)):
            for name in names:
                yield f"{title}: {name} {self.each[name]}"
        if self.reasons:
            told = "which may be why" if self.other else "and it agrees all the same" if self.good else "besides"
            yield f"not as it was ({told}): {'; '.join(self.reasons)}"
        yield from self.notes
        yield "all agrees that should" if self.good else f"{len(self.wrong)} of what should agree does not"


def compared(old: Record, new: Record) -> Iterator[tuple[str, Any, Any, bool]]:
    """(name, recorded, repeated, whether it agrees on every machine)."""
    yield "data", old.data.get("fingerprint"), new.data.get("fingerprint"), True
    for name in ALWAYS:
        yield name.replace("_", " "), getattr(old, name), getattr(new, name), True
    if old.kind == "cost":
        yield "status", old.status, new.status, False
        for name in ("train_flops", "inference_flops"):
            yield name.replace("_", " "), old.cost.get(name), new.cost.get(name), False
        return
    for name in LEARNT:
        yield name.replace("_", " "), getattr(old, name), getattr(new, name), False
    for name, a, b in (
        (f"curve of {len(old.curve)} points", old.curve, new.curve),
        (f"ladder of {len(old.ladder)} learning rates", old.ladder, new.ladder),
        ("score", old.score, new.score),
    ):
        told = untimed(a)
        yield name, told, _as(told, untimed(b)), False
    a, b = (r.predictions or {} for r in (old, new))
    yield "answers", a.get("sha256"), b.get("sha256"), False


def untimed(node: Any) -> Any:
    """What was learnt, without how long it took."""
    if isinstance(node, Mapping):
        return {k: untimed(v) for k, v in node.items() if k not in TIMES}
    return [untimed(v) for v in node] if isinstance(node, (list, tuple)) else node


def _as(old: Any, new: Any) -> Any:
    """Of the new what the old holds too: records are said more of as the suite goes on."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {k: _as(old[k], v) for k, v in new.items() if k in old}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_as(a, b) for a, b in zip(old, new, strict=True)]
    return new


def reasons(old: Record, new: Record | Mapping[str, Any]) -> list[str]:
    """In what the two were not made alike, as far as it may change a bit. new: or what `here` tells."""
    then, now = _conditions(old), _conditions(new) if isinstance(new, Record) else new
    return [
        f"{name} {_shown(value)} -> {_shown(now[name])}"
        for name, value in then.items()
        if value is not None and name in now and value != now[name]
    ]


def here(record: Record) -> dict[str, Any]:
    """The conditions of this machine for a run of the record's command, which says how many threads."""
    found = facts.machine(str(record.machine.get("device") or "cpu"))
    return {"processor": found["name"]} | {name: facts.versions().get(name) for name in ARITHMETIC}


def _conditions(record: Record) -> dict[str, Any]:
    """What may change a bit, by name."""
    if record.kind == "floor":
        return {}
    out = {word: record.machine.get(key) for key, word in CONDITIONS.items()}
    out |= {"dtype": record.dtype} | {name: record.versions.get(name) for name in ARITHMETIC}
    revision = record.config.get("revision") or {}
    return out | {f"revision of the {name}": number for name, number in revision.items()}


def _costs(old: Record, new: Record) -> Iterator[str]:
    """Times and bytes, which are measured anew and never agree to the bit."""
    if old.cost.get("status") == new.cost.get("status") == "ok":
        (a, x), (b, y) = ((r.cost["train"]["examples_per_second"], r.cost["step_peak_bytes"]) for r in (old, new))
        yield (
            f"costs are measured anew: {console.rate(a)} -> {console.rate(b)} training examples/s, step peak "
            f"{console.size(x)} -> {console.size(y)}"
        )


def _shown(value: Any) -> str:
    if isinstance(value, (Mapping, list)):
        return "…"
    return repr(value) if isinstance(value, float) else str(value)
