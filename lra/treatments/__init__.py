"""What may be done to a model besides training it: one file each, chosen by a file in configs/treatment.

A treatment is a class with either or both of

    before(trainee) -> trainee     when the model is built, before it is trained (say, pretraining)
    after(trainee) -> trainee      when it is trained and stands at its best weights, before it is tested (say, int8)

Each gets a `lra.train.trainee.Trainee` and returns the one to go on with. What a YAML says of it is part of a run's
identity; without one a run is what it was before there were treatments.
"""

from __future__ import annotations

from typing import Any


def before(treatment: Any, trainee: Any) -> Any:
    """The trainee as it is to be trained; treatment: null for none."""
    return treatment.before(trainee) if hasattr(treatment, "before") else trainee


def after(treatment: Any, trainee: Any) -> Any:
    """The trainee as it is to be tested."""
    return treatment.after(trainee) if hasattr(treatment, "after") else trainee
