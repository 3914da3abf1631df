"""What may be done to a model besides training it: one file each, chosen by a file in configs/treatment.

A treatment is a class with either or both of

    before(trainee) -> trainee     when the model is built, before it is trained (say, pretraining)
    after(trainee) -> trainee      when it is trained and stands at its best weights, before it is tested (say, int8)

Each gets a `lra.train.trainee.Trainee` and returns the one to go on with. What a YAML says of it is part of a run's
identity; without one a run is what it was before there were treatments.

`after` alone makes derived records too (`python -m lra.treat`, lra.treat), of a parent that is trained already:

    trainee.model      to be changed in place, or replaced: trainee.model = another
    trainee.exam       splits and loss; of `train` alone may be taken what a treatment learns from
    trainee.seed       of whatever it draws; called with the same weights it does the same again, by which a chain of
                       treatments is done anew, and what was kept of its weights is then laid over it
    self.facts         if it leaves such a dict: short JSON-able facts for the record. `executed` (default: true) says
                       whether the model runs as it is said to; where it is false the arithmetic is only imitated, and
                       no rate or peak is measured, for they would be the imitation's. `weight_bytes`: what the weights
                       would take then

A value that a treatment's class does not allow is a ValueError of one line in its constructor. What it cannot do to a
model is one too, in `after`: that is a row with a reason.

examples     what a treatment learns from; which linear layers a model calls
importance   what a head or a neuron does for the loss
ranges       the grids of a quantiser and what they are fitted by
"""

from __future__ import annotations

from typing import Any


def before(treatment: Any, trainee: Any) -> Any:
    """The trainee as it is to be trained; treatment: null for none."""
    return treatment.before(trainee) if hasattr(treatment, "before") else trainee


def after(treatment: Any, trainee: Any) -> Any:
    """The trainee as it is to be tested."""
    return treatment.after(trainee) if hasattr(treatment, "after") else trainee


def facts(treatment: Any) -> dict[str, Any]:
    """What it says of what it has done."""
    return {"executed": True} | dict(getattr(treatment, "facts", {}))
