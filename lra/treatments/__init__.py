"""What may be done to a model besides training it: one file each, chosen by a file in configs/treatment.

A treatment is a class with either or both of

    before(trainee) -> trainee     when the model is built, before it is trained (say, pretraining)
    after(trainee) -> trainee      when it is trained and stands at its best weights, before it is tested (say, int8)

Each gets a `lra.train.trainee.Trainee` and returns the one to go on with. One that trains itself, and so may be
interrupted, names a second argument of `before`, `going`, and is handed a `Going`. What a YAML says of it is part of a
run's identity; without one a run is what it was before there were treatments.

One with `after` alone makes derived records too (`python -m lra.treat`, lra.treat), of a parent that is trained:

    trainee.model      to be changed in place, or replaced: trainee.model = another
    trainee.exam       splits and loss; of `train` alone may be taken what a treatment learns from
    trainee.seed       of whatever it draws; called with the same weights it does the same again, by which a chain of
                       treatments is done anew, and what was kept of its weights is then laid over it
    self.facts         if it leaves such a dict: short JSON-able facts for the record. `executed` (default: true) says
                       whether the model runs as it is said to; where it is false the arithmetic is only imitated, and
                       no rate or peak is measured, for they would be the imitation's. `weight_bytes`: what the weights
                       would take then

    shaped(trainee)    if it has that: as `after`, but for the values of weights; called in its place where a chain has
                       them kept, so that nothing is trained twice

A value that a treatment's class does not allow is a ValueError of one line in its constructor. What it cannot do to a
model is one too, in `after`: that is a row with a reason.

examples     what a treatment learns from; which linear layers a model calls
importance   what a head or a neuron does for the loss
further      some steps of training behind the run's own
prefix       smaller networks that are the beginning of a whole one
ranges       the grids of a quantiser and what they are fitted by
inputs       the inputs of an exam as an exam, for pretraining
relations    what a student is to have in common with its teacher
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Going:
    """How a run goes, for a treatment that trains before the run does.

    settings      with all numbers of steps
    steps_in      how many steps of training so many minutes hold, where the run is asked for by minutes
    progress      of so many steps: what is called with step and, as they are known, loss, examples_per_second, valid
    saver, since  who keeps states, and the one to go on from (lra.train.fit); the treatment leaves here those of the
                  training to come
    told          what the record says of it (`Record.pretraining`); `tell` adds to it, so that a state keeps it too
    """

    settings: Any
    steps_in: Callable[[float], int | None] = lambda minutes: None
    progress: Callable[[int], Callable[..., None]] = lambda steps: lambda **_: None
    saver: Any = None
    since: Any = None
    told: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[Mapping[str, Any]], None] = lambda told: None


def before(treatment: Any, trainee: Any, going: Going | None = None) -> Any:
    """The trainee as it is to be trained; treatment: null for none."""
    if not hasattr(treatment, "before"):
        return trainee
    named = "going" in inspect.signature(treatment.before).parameters
    return treatment.before(trainee, going=going) if named else treatment.before(trainee)


def after(treatment: Any, trainee: Any) -> Any:
    """The trainee as it is to be tested."""
    return treatment.after(trainee) if hasattr(treatment, "after") else trainee


def shaped(treatment: Any, trainee: Any) -> Any:
    """The trainee as `after` leaves it, whose weights are kept elsewhere and may have any values here."""
    return treatment.shaped(trainee) if hasattr(treatment, "shaped") else after(treatment, trainee)


def facts(treatment: Any) -> dict[str, Any]:
    """What it says of what it has done."""
    return {"executed": True} | dict(getattr(treatment, "facts", {}))
