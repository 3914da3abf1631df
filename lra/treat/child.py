"""The process that treats a model, times it beside its parent, and has both answer.

    python -m lra.treat.child DESCRIPTOR TIMEOUT

On the channel come the work, then the limits of each turn, then null; READY goes back when it waits for the next, and
in the end the answer: what a derived record is made of, or the status and reason of a failure.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lra import treatments
from lra.errors import UserError, first_line
from lra.machine.channel import Channel
from lra.machine.device import accelerator, own_randomness, resolve_device, resolve_dtype, seed_everything
from lra.machine.facts import machine
from lra.machine.heartbeat import felt
from lra.machine.memory import keep_freed
from lra.measure.cost import Limits
from lra.measure.gauges import is_oom
from lra.measure.session import BEAT, READY
from lra.record.answers import LARGEST, arrays, packed
from lra.record.content import content
from lra.runner.score import at_length, between, kinds
from lra.settings import build
from lra.settings.schema import Settings
from lra.settings.typed import typed
from lra.train import checkpoint
from lra.train.evaluate import evaluate
from lra.train.trainee import Trainee
from lra.treat.bench import Bench
from lra.treat.beside import beside

DIFFERING = 0.01  # of the answers of a parent that may differ from the recorded ones, as between machines they do


@dataclass
class Work:
    """settings, weights: of the run that was trained. steps: from it to the parent, (treatment, kept weights or null)
    each. new: the treatment that is asked for. predictions: the parent's recorded ones. keep: where the weights go."""

    settings: dict[str, Any]
    weights: str
    steps: list[tuple[dict[str, Any], str | None]]
    new: dict[str, Any]
    predictions: str
    keep: str | None
    facts: dict[str, str]


class Stage:
    """What is being done, for the reason of a failure."""

    name = "building the parent"


def rebuilt(work: Work, settings: Settings, exam: Any, acc: Any) -> Trainee:
    """The parent as its record left it."""
    seed_everything(settings.seed)
    model = build.model(settings, exam)
    checkpoint.load(work.weights, model, exam.vocabulary)
    trainee = Trainee(model.to(acc.device), exam, settings.train, acc, False, settings.seed)
    for node, kept in work.steps:
        trainee, _ = treated(trainee, node)
        if kept is not None:
            checkpoint.load(kept, trainee.model, exam.vocabulary)
    trainee.model.eval()
    return trainee


def treated(trainee: Trainee, node: dict[str, Any]) -> tuple[Trainee, dict[str, Any]]:
    """After the treatment, and what that says of itself. The same again whenever it is called."""
    treatment = build.instantiate(node, "treatment")
    with own_randomness(trainee.seed):
        trainee = treatments.after(treatment, trainee)
    return trainee, treatments.facts(treatment)


def answered(work: Work, channel: Channel) -> dict[str, Any]:
    """All of it. Raises whatever keeps it from an end; Stage says where."""
    settings = typed(work.settings)
    keep_freed()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings.device)
    acc = accelerator(device, resolve_dtype(settings.dtype, device))
    exam = build.task(settings)
    parent = rebuilt(work, settings, exam, acc)
    Stage.name = "treating it"
    child, facts = treated(rebuilt(work, settings, exam, acc), work.new)
    found: dict[str, Any] = {"inference": [], "conditions": None, "disturbed": None}
    Stage.name = "measuring"
    bench = Bench(settings, exam, acc, parent.model, child.model) if facts["executed"] else None
    if bench is not None:
        bench.warm()
    channel.send(READY)
    while (limits := channel.receive()) is not None:
        if bench is not None:
            bench.turn(Limits(**limits))
        channel.send(READY)
    found |= bench.result() if bench is not None else {}
    Stage.name = "testing the parent"
    before = evaluate(parent.model, exam, "test", settings, acc)
    differs = same_as_recorded(before, work.predictions)
    Stage.name = "testing"
    after = evaluate(child.model, exam, "test", settings, acc)
    answers = packed(after.predictions, after.labels, after.clusters, exam.asked_kinds("test"))
    kept, lost = keep(work, child)
    return {
        "status": "ok",
        "fields": {
            "accuracy_test": after.accuracy,
            "loss_test": after.loss,
            "items_test": after.items,
            "parameters": sum(p.numel() for p in child.model.parameters()) or None,
            "dtype": acc.dtype,
            "machine": machine(device),
            "score": scored(child, settings, after),
            "kept": kept,
        },
        "derived": beside(after, before) | found | {"facts": facts, "parent_differs": differs, "not_kept": lost},
        "answers": base64.b64encode(answers).decode(),
    }


def same_as_recorded(found: Any, path: str) -> int:
    """How many answers differ. Raises UserError where it is another model that answers."""
    recorded = arrays(content(path, LARGEST))[0]
    if recorded.shape != found.predictions.shape:
        raise UserError(f"the parent has {len(found.predictions)} answers, and {len(recorded)} are recorded")
    differs = int((recorded.astype(int) != found.predictions.astype(int)).sum())
    if differs > DIFFERING * len(recorded):
        raise UserError(f"the parent, built again, answers otherwise than recorded on {differs} of {len(recorded)}")
    return differs


def scored(child: Trainee, settings: Settings, test: Any) -> dict[str, Any]:
    """As lra.runner.score has it, of what was not trained here."""
    exam = child.exam
    if exam.levels("test") is None:
        return {}
    (floor, ceiling), (low, high) = exam.levels("test"), exam.levels("valid")
    found = between(test.accuracy, floor, ceiling)
    return {
        "floor": floor,
        "ceiling": ceiling,
        "on_valid": {"floor": low, "ceiling": high},
        "test": found,
        "valid": None,
        "learnt": False,
        "reached": [],
        "lengths": [at_length(child, settings, length) for length in exam.test_len],
        "kinds": kinds(exam, test),
    }


def keep(work: Work, child: Trainee) -> tuple[dict[str, Any] | None, str | None]:
    """(what was kept, why it was not): weights that are packed are no tensors, and are done again from the parent's."""
    if work.keep is None:
        return None, None
    state = child.model.state_dict()
    if odd := sorted(name for name, value in state.items() if type(value) is not torch.Tensor or value.is_quantized):
        return None, f"{odd[0]} is no plain tensor; a chain does it again from its parent"
    path = Path(work.keep)
    try:
        checkpoint.save(path, state, work.facts)
    except OSError as error:
        return None, f"the folder of the record cannot hold the weights ({error.strerror or error})"
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}, None


def done(work: Work, channel: Channel) -> dict[str, Any]:
    """The answer, whatever it is."""
    try:
        return answered(work, channel)
    except Exception as error:
        status = "oom" if is_oom(error) else "failed"
        name = "" if isinstance(error, (UserError, ValueError)) else f"{type(error).__name__}: "
        return {"status": status, "reason": f"{Stage.name}: {name}{first_line(error)}"}


def main() -> int:
    channel = Channel.inherited(int(sys.argv[1]), closed=lambda: os._exit(1))  # nobody waits for the answer any more
    with felt(lambda _: channel.send(BEAT)):
        work = channel.receive()
        if work is not None:
            channel.send(done(Work(**work), channel))
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
