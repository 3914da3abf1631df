"""A run that is stopped goes on: what it leaves below `results_dir/unfinished`, and whether that can be taken up."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lra.console import say
from lra.errors import UserError
from lra.machine import facts
from lra.record.claim import Claim
from lra.record.unfinished import Broken, generation, read, remove, states, write
from lra.runner.draft import Draft
from lra.runner.place import folder
from lra.train.state import State, packed, unpacked

RESTARTS = 3
KEPT = 2  # states: should the last be damaged, there is the one before
# What a state is taken up with must be as it was, by what it is called in a line; the record would mix two otherwise.
SAME = {
    "code": "code",
    "versions": "versions of libraries",
    "name": "processor",
    "threads": "threads",
    "processes": "number of processes",
}


def fallen(claim: Claim) -> int:
    """How often the run was taken up since its newest state, by processes that ended without a word."""
    last = max((generation(p) for p in states(claim.folder)), default=0)
    ended = (claim.folder / f"released.{n}" for n in range(max(last, 1), claim.generation))
    return sum(not path.exists() for path in ended)


def conditions(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What a segment of a run was made under."""
    commit, dirty = facts.commit()
    return {
        "host": platform.node(),
        "name": machine["name"],
        "threads": machine["threads"],
        "processes": machine["processes"],
        "versions": facts.versions(),
        "code": facts.digest(),
        "commit": commit,
        "dirty": dirty,
    }


class Unfinished:
    """A run's folder in the hands of the process that does it; what training asks for at its steps (Saver)."""

    def __init__(self, draft: Draft, claim: Claim | None) -> None:
        self.draft, self.claim = draft, claim
        self.place = folder(draft.settings, draft.machine["device"], draft.dtype)
        self.here = conditions(draft.machine)
        self.saved = time.monotonic()
        self.steps_before = 0

    def found(self) -> State | None:
        """The newest whole state, with what the run had found out before; null where it starts.

        Raises UserError for a state that was made otherwise, unless the settings say to go on anyway.
        """
        if self.draft.settings.resume == "no":
            return None
        for path in states(self.place):
            try:
                said, content = read(path)
                self._take(said)
                return unpacked(content, said["facts"])
            except ValueError as error:
                say(f"unfinished: {error}; the one before is tried")
        return None

    def _take(self, said: Mapping[str, Any]) -> None:
        draft, step = self.draft, said["facts"].get("steps_done")
        segments, kept = said.get("segments"), said.get("draft")
        if not (isinstance(step, int) and isinstance(segments, list) and segments and isinstance(kept, dict)):
            raise Broken(f"{self.place.name} holds no run")
        differ = [word for key, word in SAME.items() if segments[-1].get(key) != self.here[key]]
        if said.get("fingerprint") != draft.data["fingerprint"]:
            differ.append("data")
        if differ and draft.settings.resume != "anyway":
            raise UserError(
                f"resume: this run stands at step {step}, made with other {' and '.join(differ)}; resume=anyway goes "
                f"on from there and its record says so, resume=no starts again"
            )
        draft.segments = [dict(s) for s in segments]
        draft.cost, draft.contract = kept["cost"], kept["contract"]
        draft.minutes, draft.pretraining = kept.get("minutes", {}), kept.get("pretraining", {})
        draft.wall = draft.wall | {k: float(v) for k, v in kept["wall"].items() if k != "data"}
        draft.before = float(kept["seconds"])
        self.steps_before = step
        say(f"goes on from step {step} of {draft.steps_in_all}")

    def wanted(self) -> bool:
        draft = self.draft
        late = time.monotonic() - self.saved > draft.settings.checkpoint_every
        return draft.interrupted or draft.asked or late

    @contextmanager
    def held(self) -> Iterator[None]:
        self.draft.holding = True
        try:
            yield
        finally:
            self.draft.holding = False

    def keep(self, state: State) -> None:
        draft = self.draft
        draft.asked, self.saved = False, time.monotonic()
        if self.claim is not None:
            self.claim.check()
            self._write(state)
        if draft.interrupted:
            raise KeyboardInterrupt

    def _write(self, state: State) -> None:
        step = state.facts["steps_done"]
        path = self.place / f"state-{self.claim.generation}-{step}.json"
        if path.exists():
            return
        try:
            write(path, self._about(step) | {"facts": state.facts}, packed(state))
        except OSError as error:
            say(f"results_dir: {self.place} cannot hold the state at step {step} ({error.strerror or error}); goes on")
            return
        for old in states(self.place)[KEPT:]:
            remove(old)

    def _about(self, step: int) -> dict[str, Any]:
        draft = self.draft
        return {
            "run_id": draft.run_id,
            "task": draft.settings.choices.task,
            "model": draft.settings.choices.model,
            "seed": draft.settings.seed,
            "budget": draft.settings.budget,
            "row": draft.exam.row,
            "steps": draft.steps_in_all,
            "fingerprint": draft.data["fingerprint"],
            "segments": [*draft.segments, self.segment(step)],
            "draft": {
                "cost": draft.cost,
                "contract": draft.contract,
                "minutes": draft.minutes,
                "pretraining": draft.pretraining,
                "wall": draft.wall | {"train": draft.seconds - sum(draft.wall.values())},
                "seconds": draft.seconds,
            },
        }

    def segment(self, step: int) -> dict[str, Any]:
        """What this process has done of the run until `step`."""
        return {"from": self.steps_before, "to": step} | self.here
