"""Settings chosen by the accuracy on valid, in a fixed number of trials; the test is looked at once, for the chosen.

    python -m lra.tune trials=20 task=listops model=mine,performer size.dropout=0,0.1,0.2
        'train.learning_rate=tag(log,interval(1e-4,1e-2))' [seed=0,1,2] [budget=quick] [--config-dir mine] [--dry-run]

What has several values, as a sweep writes them (a,b,c, range(1,5), interval(0,1), int(interval(1,8)); tag(log,…) of an
interval), is searched, by Optuna's tree of Parzen estimators (pip install 'lra[optuna]'); model and task may be lists,
and each pair gets as many trials. A trial is a run with test=false: a record, or a row of why there is none, and in no
table of results. What is chosen is run with each seed and has an ordinary record, which says what was searched. The
same command has the same trials, and goes on where it was stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lra import console
from lra.errors import UserError, guarded
from lra.machine.signals import heard, interrupting
from lra.settings import build, compose
from lra.settings.words import as_typed, dry, split
from lra.sweep.dry import of_jobs
from lra.sweep.job import Job, Row
from lra.sweep.once import Sweep, note

MOST = 10_000
OURS = ("test", "search", "measure.enabled", "sweep", "minutes", "workers", "devices", "dry_run")
HEAD = ("run", "trials", "without a score", "valid", "chosen", "test")


@dataclass(frozen=True)
class Space:
    """The settings that are searched: key -> what Optuna draws it from, as words have it."""

    drawn: dict[str, Callable[[Any], str]]

    def words(self, trial: Any) -> list[str]:
        return [f"{key}={draw(trial)}" for key, draw in self.drawn.items()]


@dataclass(frozen=True)
class Asked:
    """models, tasks and seeds are lists; trials run with the first seed. words: what all runs have."""

    trials: int
    tasks: list[str]
    models: list[str]
    seeds: list[str]
    space: Space
    words: list[str]
    config_dir: str | None = None

    def job(self, task: str, model: str, seed: str, more: Sequence[str], label: str = "") -> Job:
        over = ",".join(self.space.drawn)
        searched = [f"search.trials={self.trials}", f"search.over=[{over}]"]
        words = (*self.words, f"task={task}", f"model={model}", f"seed={seed}", *more, *searched)
        shown = " ".join([task, model, f"s{seed}", *([label] if label else []), *more])
        folder = str(Path(self.config_dir).resolve()) if self.config_dir else None
        return Job(words, folder, task, model, int(seed), shown)

    def trial(self, task: str, model: str, number: int, own: Sequence[str]) -> Job:
        """number: from 1."""
        job = self.job(task, model, self.seeds[0], own, f"trial {number}/{self.trials}")
        return replace(job, words=(*job.words, "test=false", "measure.enabled=false", f"search.trial={number}"))


def asked(typed: Sequence[str]) -> Asked:
    """Of a command line. UserError for what cannot be searched."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    words, config_dir = split(typed)
    given: dict[str, list[str]] = {"task": [], "model": [], "seed": ["0"]}
    drawn, rest, trials = {}, [], None
    for word in as_typed(["-m", *words])[1:]:
        try:
            (found,) = OverridesParser.create().parse_overrides([word])
        except OverrideParseException as error:
            raise UserError(f"{word!r} is not an option; write key=value, for instance task=listops") from error
        key = found.get_key_element()
        if key in given and (found.is_choice_sweep() or not found.is_sweep_override()):
            given[key] = [*found.sweep_string_iterator()] if found.is_sweep_override() else [word.partition("=")[2]]
        elif key == "trials":
            trials = found.value()
        elif key.split(".")[0] in OURS or key in OURS:
            raise UserError(f"{key}: is nothing that a search is told; allowed: trials=N, and the words of a run")
        elif found.is_sweep_override():
            drawn[key] = _drawn(found)
        else:
            rest.append(word)
    if type(trials) is not int or not 1 <= trials <= MOST:
        raise UserError(f"trials: {trials} is not a whole number from 1 to {MOST:,}, as in trials=20")
    for name in ("task", "model"):
        if not given[name]:
            raise UserError(f"{name}: is not said; allowed: one or several, as {name}=a,b")
    if wrong := [seed for seed in given["seed"] if not seed.isdecimal()]:
        raise UserError(f"seed: {wrong[0]} is not a whole number, 0 or more")
    if not drawn:
        raise UserError("tune: nothing is searched; give a setting several values, as train.learning_rate=1e-4,1e-3")
    return Asked(trials, given["task"], given["model"], given["seed"], Space(drawn), rest, config_dir)


def _drawn(found: Any) -> Callable[[Any], str]:
    """What draws one setting from a trial of Optuna's, as a word has it. found: Hydra's override."""
    key = found.get_key_element()
    if key.startswith(("+", "~", "hydra")) or not compose.departs(f"{key}=0"):
        raise UserError(f"{key}: shapes no result; allowed: settings that do, as size.dropout=0,0.1")
    if found.is_discrete_sweep():
        values = [*found.sweep_string_iterator()]
        return lambda trial: trial.suggest_categorical(key, values)
    sweep = found.value()
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if not low < high or (log and low <= 0):
        raise UserError(f"{key}: from {low} to {high} is no interval{' above 0, as log asks for' * log}")
    if type(low) is int and type(high) is int:
        return lambda trial: str(trial.suggest_int(key, low, high, log=log))
    return lambda trial: f"{trial.suggest_float(key, low, high, log=log):.4g}"  # a word that a table can hold


@dataclass
class Found:
    """Of one model on one exam. failed: trials without an accuracy."""

    task: str
    model: str
    trials: int = 0
    failed: int = 0
    valid: float | None = None
    chosen: list[str] | None = None
    rows: list[Row] = field(default_factory=list)  # of the runs that have looked at the test

    def line(self) -> list[str]:
        test = ", ".join(console.percent(r.accuracy) if r.accuracy is not None else r.status for r in self.rows)
        chosen = " ".join(self.chosen) if self.chosen is not None else "nothing"
        counts = [str(self.trials), str(self.failed)]
        return [f"{self.task} {self.model}", *counts, console.percent(self.valid), chosen, test or "-"]


def searched(what: Asked, task: str, model: str, launcher: Any) -> Found:
    """Have the trials done, one after the other, and what they choose."""
    optuna = library()
    sampler = optuna.samplers.TPESampler(seed=int(what.seeds[0]))
    study, out = optuna.create_study(direction="maximize", sampler=sampler), Found(task, model)
    for number in range(1, what.trials + 1):
        trial = study.ask()
        own = what.space.words(trial)
        job = what.trial(task, model, number, own)
        accuracy, row = done(job, launcher)
        out.trials += 1
        if accuracy is None:
            out.failed += 1
            note(f"{job.label}: {row.status}{f': {row.reason}' if row.reason else ''}")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        note(f"{job.label}: {console.percent(accuracy)} on valid{', recorded before' * row.known}")
        study.tell(trial, accuracy)
        if out.valid is None or accuracy > out.valid:  # of equals the first
            out.valid, out.chosen = accuracy, own
    for seed in what.seeds if out.chosen is not None else ():
        job = what.job(task, model, seed, out.chosen)
        out.rows.append(done(replace(job, words=(*job.words, f"search.failed={out.failed}")), launcher)[1])
    return out


def done(job: Job, launcher: Any) -> tuple[float | None, Row]:
    """The accuracy on valid of a job's record, null without one that ended well; and its row."""
    sweep = Sweep(launcher)
    sweep.all([job])
    (row,) = sweep.rows
    if row.status != "ok":
        return None, row
    record = sweep.newest(compose.config(job.words, job.config_dir))
    return (None if record is None else record.accuracy_valid), row


def library() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("tune: Optuna is not installed; pip install 'lra[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def main() -> int:
    only_told, words = dry(sys.argv[1:])
    what = asked(words)
    optuna = library()
    pairs = [(task, model) for task in what.tasks for model in what.models]
    if only_told:
        first = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(what.seeds[0]))).ask()
        jobs = [what.trial(task, model, 1, what.space.words(first)) for task, model in pairs]
        text, good = of_jobs(jobs, compose.config(jobs[0].words, what.config_dir).results_dir)
        print(f"{text}\neach of {what.trials} trials, one after the other, and then {len(what.seeds)} with the test")
        return 0 if good else 1
    settings = compose.config(what.job(*pairs[0], what.seeds[0], ()).words, what.config_dir)
    launcher = build.instantiate(settings.launcher, "launcher")
    if not hasattr(launcher, "launch"):
        raise UserError("launcher: trials follow one another, each chosen by those before; allowed: local")
    found: list[Found] = []
    with heard(interrupting()):
        try:
            found.extend(searched(what, *pair, launcher) for pair in pairs)
        finally:
            if found:
                print(told(found))
    return 0 if all(f.chosen is not None and all(r.status == "ok" for r in f.rows) for f in found) else 1


def told(found: Sequence[Found]) -> str:
    return "\n".join([
        console.table([each.line() for each in found], HEAD),
        "Chosen by the accuracy on valid, each of as many trials; the test was looked at for what is chosen alone.",
    ])  # fmt: skip


if __name__ == "__main__":
    guarded(main, __doc__)
