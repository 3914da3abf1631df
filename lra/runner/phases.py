"""The phases of a run, in order. Each fills in a part of the draft, or ends the run by raising `Ended`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lra import console, treatments
from lra.console import say
from lra.errors import UserError
from lra.floors import data_facts
from lra.machine.device import resolve_device, resolve_dtype, seed_everything
from lra.machine.facts import machine
from lra.machine.heartbeat import beat
from lra.machine.memory import keep_freed
from lra.measure.alone import measure
from lra.record import store
from lra.record.answers import packed
from lra.record.claim import taken
from lra.record.place import writable
from lra.record.reserve import Reserve, tidy
from lra.runner.draft import Draft, Ended
from lra.runner.known import Known, known
from lra.runner.minutes import KIND, alone, counted, used
from lra.runner.mirror import mirrored
from lra.runner.place import folder
from lra.runner.score import scored
from lra.settings import build, identity
from lra.settings.ranges import halved
from lra.settings.schema import Settings


def prepare(draft: Draft) -> None:
    """Refuse what cannot work, announce the run and get its data. No record before this has ended well."""
    import torch

    settings = draft.settings
    draft.main = int(os.environ.get("RANK", "0")) == 0
    keep_freed()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is not available here; use device=cpu or device=auto")
    draft.exam = build.task(settings)
    device = resolve_device(settings.device)
    alone(settings)
    draft.machine, draft.dtype = machine(device), resolve_dtype(settings.dtype, device)
    build.outline(settings, draft.exam)
    if draft.main:
        tidy(Path(settings.results_dir))
    draft.treatment = build.instantiate(settings.treatment, "treatment") if settings.treatment else None
    for name in ("results_dir", "output_dir"):
        writable(name, Path(getattr(settings, name)))
    if draft.main:
        claimed(draft)
    with timed(draft, "data"):
        try:
            if draft.main:
                announce(draft)
            draft.data = data_facts(draft.exam)
            draft.reserve = room(draft) if draft.main else None
        except ValueError as error:  # tasks speak in ValueErrors of one line
            raise UserError(str(error)) from error


def claimed(draft: Draft) -> None:
    """Make the run this process's own. Raises Held if somebody else does it."""
    settings = draft.settings
    place = folder(settings, draft.machine["device"], draft.dtype)
    try:
        draft.claim = taken(place, draft.run_id, draft.started_utc, draft.terms.over)
    except OSError as error:
        raise UserError(f"results_dir: {place} cannot be written ({error.strerror or error})") from error
    draft.run_id, draft.started_utc = draft.claim.run_id, draft.claim.started_utc
    if draft.terms.shared and (found := known(settings)) is not None:
        raise Known(*found)
    if draft.tell is not None:
        draft.tell({"claim": draft.claim.said()})


def resume(draft: Draft) -> None:
    """Go on where the run was stopped, if it was. One that is taken up again and again without a step has failed."""
    from lra.runner.resume import RESTARTS, Unfinished, fallen

    draft.unfinished = Unfinished(draft, draft.claim)
    draft.state = draft.unfinished.found()
    if draft.claim is not None and fallen(draft.claim) >= RESTARTS:
        raise Ended("failed", f"taken up {RESTARTS} times without a step more")


def room(draft: Draft) -> Reserve:
    """Space for the record to come, taken while there is some."""
    settings = draft.settings
    where = store.folder(Path(settings.results_dir), settings.choices.task, settings.choices.model)
    try:
        return Reserve(where, draft.name, draft.data["items"]["test"])
    except OSError as error:
        raise UserError(f"results_dir: {where} has no room for a record ({error.strerror or error})") from error


@contextmanager
def timed(draft: Draft, name: str) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        draft.wall[name] = draft.wall.get(name, 0.0) + time.perf_counter() - begin


def steps(settings: Settings) -> str:
    train = settings.train
    if train.steps is None:
        rates = f" over {len(train.rates)} learning rates," * bool(train.rates)
        return f"{train.core_minutes:g} {KIND[resolve_device(settings.device)]}-minutes of steps{rates}"
    train = train.of_steps(train.steps)
    if not train.rates:
        return f"{train.steps} steps"
    most = f"at most {train.steps_in_all} steps" if train.stop_at is not None else f"{train.steps_in_all} steps"
    return f"{most} over {len(train.rates)} learning rates, {train.steps} of one,"


def announce(draft: Draft) -> None:
    """What runs, on what, for how long, and which command gives comparable numbers."""
    settings, exam, where = draft.settings, draft.exam, draft.machine
    say(f"{settings.choices.model} on {exam.row}, budget {settings.budget}, seed {settings.seed}")
    say(
        f"{steps(settings)} of {settings.train.batch_size} examples of up to {exam.max_len} tokens, "
        f"{draft.dtype} on {where['name']} ({where['threads']} threads)"
    )
    if settings.budget == "quick":
        say(
            "quick shows that a model learns and what it costs; for numbers to compare with other work: "
            f"python -m lra task={settings.choices.task} model={settings.choices.model} budget=small (or paper)"
        )


def cost(draft: Draft) -> None:
    """Measure a training step, in a process of its own, before anything else works here."""
    settings = draft.settings
    if draft.cost or not (settings.measure.enabled and draft.main):
        return
    with timed(draft, "measure"):
        found = measure(draft.config, drawn=settings.train.steps is None)
        draft.cost = found.asdict()
    if not found.ok:
        raise Ended(found.status, f"while measuring: {found.reason}")
    rate = found.train.examples_per_second
    told = f"measured: {console.rate(rate)} training examples/s, step peak {console.size(found.step_peak_bytes)}; "
    if settings.train.steps is None:
        draft.minutes = counted(settings, draft.machine, found.drawn)
        train = draft.train
        say(f"{told}{train.core_minutes:g} {draft.minutes['of']}-minutes are {steps(replace(settings, train=train))}")
        return
    seconds = draft.train.steps_in_all * settings.train.batch_size / rate
    say(f"{told}training takes at most about {console.duration(seconds)}")


def contract(draft: Draft) -> None:
    """Ask whether the model keeps the contract at this run's sizes. A verdict stops no run: it is in the record,
    and tables show it."""
    from lra.check.short import verdict

    if draft.contract or not draft.main:
        return
    with timed(draft, "contract"):
        draft.contract = verdict(draft.settings, draft.exam, draft.machine["device"])
    for point, found in draft.contract["broken"].items():
        say(f"the contract is broken ({point}): {found}; the table will say so")
    if blind := draft.contract["blind"]:
        say(f"{blind:.1%} of the positions cannot move an answer (model.pooling: {_pooling(draft)})")


def _pooling(draft: Draft) -> str:
    return str(draft.settings.model.get("pooling", "the model's own"))


def train(draft: Draft) -> None:
    """Build the model, train it, and leave it with the weights that were best on valid."""
    from lra.machine.device import accelerator
    from lra.train import checkpoint
    from lra.train.fit import Diverged, Fit
    from lra.train.ladder import climb
    from lra.train.progress import Progress
    from lra.train.state import Unfit
    from lra.train.trainee import Trainee

    settings, exam = replace(draft.settings, train=halved(draft.train)), draft.exam
    seed_everything(settings.seed)
    model = build.model(settings, exam)
    draft.parameters = sum(p.numel() for p in model.parameters())
    idle = sum(getattr(module, "idle_parameters", 0) for module in model.modules())
    draft.active_parameters = draft.parameters - idle
    draft.state_floats = state_floats(model, exam.max_len)
    acc = accelerator(draft.machine["device"], draft.dtype)
    going = treatments.Going(
        settings, partial(steps_in, draft), partial(ahead, draft), draft.unfinished, draft.state, draft.pretraining,
        partial(pretrained, draft),
    )  # fmt: skip
    if settings.checkpoint is not None:
        checkpoint.load(settings.checkpoint, model, exam.vocabulary)
    model.to(acc.device)
    trainee = Trainee(model, exam, settings.train, acc, settings.compile, settings.seed)
    bar = Progress(settings.train.steps_in_all, quiet=not draft.main)
    draft.fit = Fit()
    try:
        with timed(draft, "pretrain") if hasattr(draft.treatment, "before") else nullcontext():
            trainee = treatments.before(draft.treatment, trainee, going)
        draft.trainee, draft.groups = trainee, trainee.groups()
        with timed(draft, "train"):
            climb(trainee, settings, progress(draft, bar), draft.fit, going.saver, going.since)
    except Diverged as error:
        raise Ended("diverged", str(error)) from error
    except Unfit as error:
        raise UserError(f"resume: {draft.unfinished.place}: {error}; resume=no starts again") from error
    finally:
        bar.close()
        trained(draft)
    if draft.fit.best_state:
        trainee.model.load_state_dict(draft.fit.best_state)
    draft.trainee = treatments.after(draft.treatment, trainee)


def steps_in(draft: Draft, minutes: float) -> int | None:
    """Steps that so many minutes hold, as those of training are counted; null of a run that is not asked so."""
    return int(draft.minutes["steps"] * minutes / draft.minutes["asked"]) if draft.minutes else None


def ahead(draft: Draft, steps: int) -> Callable[..., None]:
    """What a treatment calls that trains for so many steps before training."""
    from lra.train.progress import Progress

    bar = Progress(steps, quiet=not draft.main)

    def progress(**values: Any) -> None:
        if draft.interrupted and not draft.holding:
            raise KeyboardInterrupt  # something has swallowed the first
        bar(**values)
        beat(ahead=values["step"])
        if values["step"] == steps:
            bar.close()

    return progress


def pretrained(draft: Draft, told: Mapping[str, Any]) -> None:
    draft.pretraining = dict(told)


def state_floats(model: Any, length: int) -> int | None:
    """What the model says that its mixers keep of `length` tokens; null where it says nothing, or no count."""
    said = model.state_floats(length) if callable(getattr(model, "state_floats", None)) else None
    return said if isinstance(said, int) and said >= 0 else None


def progress(draft: Draft, bar: Callable[..., None]) -> Callable[..., None]:
    """What training calls as it goes on: shows it, mirrors it, and tells the keeper."""
    mirror = mirrored(draft) if draft.main else None

    def progress(**values: Any) -> None:
        if draft.interrupted and not draft.holding:
            raise KeyboardInterrupt  # something has swallowed the first
        bar(**values)
        beat(step=values["step"])
        if mirror is not None:
            mirror.log(**values)
        if "valid" in values:
            trained(draft)
            draft.report("train")

    return progress


def trained(draft: Draft) -> None:
    """Copy what training left, also where it was cut short."""
    result = draft.fit
    draft.curve, draft.steps_done, draft.best_step = result.curve, result.steps_done, result.best_step
    draft.taken, draft.ladder = result.taken, result.ladder
    if draft.minutes:
        draft.minutes = draft.minutes | {"used": used(draft.minutes, result.spent)}
    if result.best_accuracy is not None:
        draft.accuracy_valid, draft.items_valid = result.best_accuracy, result.best_items
    if result.positions and result.seconds:
        draft.training = {
            "seconds": round(result.seconds, 3),
            "core_seconds": round(result.core_seconds, 3),
            "pace": result.spent.pace,
            "examples_per_second": result.examples / result.seconds,
            "tokens_per_second": result.tokens / result.seconds,
            "padding_share": 1 - result.tokens / result.positions,
            "parts": result.parts / result.steps_done if result.steps_done else None,
            "undivided": result.undivided,
            "kernels": kernels(draft.trainee),
        }


def kernels(trainee: Any) -> list[str]:
    """Which kernel the mixers take in training, of those that have several: "FullAttention: blocks"."""
    device = trainee.acc.device
    mixers = [m for m in trainee.model.modules() if callable(getattr(m, "path", None))]
    return sorted({f"{type(m).__name__}: {m.path(device)}" for m in mixers})


def test(draft: Draft) -> None:
    """Score every test item once; none in a trial of a search."""
    if not draft.settings.test:
        return
    from lra.train.evaluate import evaluate

    trainee = draft.trainee
    with timed(draft, "test"):
        score = evaluate(trainee.model, trainee.exam, "test", draft.settings, trainee.acc)
        draft.scored = True
    draft.accuracy_test, draft.items_test, draft.loss_test = score.accuracy, score.items, score.loss
    draft.answers = packed(score.predictions, score.labels, score.clusters, trainee.exam.asked_kinds("test"))
    draft.score, draft.noted = scored(draft, score), score.noted


def keep(draft: Draft) -> None:
    """The best weights, with what they belong to: for a while, or to lie beside the record. They are not what a run is
    for: a disk that is full costs the checkpoint, with a line, and not the score."""
    from lra.train import checkpoint

    if not (draft.main and draft.fit.best_state):
        return
    settings = draft.settings
    place = Path(settings.output_dir) / "checkpoints" / settings.choices.task / settings.choices.model
    facts = {
        "run_id": draft.run_id,
        "vocabulary": draft.exam.vocabulary,
        "config_hash": identity.identity(draft.config),
        "step": str(draft.fit.best_step),
    }
    if settings.keep == "best":
        draft.weights = checkpoint.packed(draft.fit.best_state, facts)
        return
    try:
        path = checkpoint.save(place / f"{draft.run_id}.safetensors", draft.fit.best_state, facts)
    except OSError as error:
        say(f"output_dir: {place} cannot hold the checkpoint ({error.strerror or error}); the run goes on without it")
        return
    draft.checkpoint = path.name


PHASES: tuple[Callable[[Draft], None], ...] = (resume, cost, contract, train, test, keep)
