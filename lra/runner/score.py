"""What an exam with a floor and a ceiling says of a model, from 0, the floor, to 1, the ceiling."""

from __future__ import annotations

from typing import Any

from lra.errors import first_line
from lra.settings.schema import Settings

LEARNT = 0.98
STEPS_TO = (0.9, LEARNT)  # scores on valid of which it is told when they were reached


def scored(draft: Any, test: Any) -> dict[str, Any]:
    """What a record keeps; empty for an exam without them. test: its lra.train.evaluate.Score.

    floor, ceiling   of accuracy on test; on_valid: the same there, by which the curves of a ladder are judged
    test, valid      the scores
    learnt           is the score on test at least LEARNT?
    reached          for each of STEPS_TO, at the rate that was taken: `sequences` and `core_seconds` of training when
                     valid first was there; null where it never was
    lengths          of tests at other lengths: {"length", "accuracy", "test", "refused"}; refused: why there is none;
                     test is null where the floor is as good as any
    kinds            of answers that are reported apart: {kind: {"number", "accuracy", "items"}} on test, by
                     the number that stands in the stored answers
    """
    exam, curve = draft.exam, draft.fit.curve
    if exam.levels("test") is None:
        return {}
    (floor, ceiling), (low, high) = exam.levels("test"), exam.levels("valid")

    def on_valid(accuracy: float) -> float:
        return between(accuracy, low, high)

    reached = []
    for score in STEPS_TO:
        first = next((p for p in curve if on_valid(p["valid_accuracy"]) >= score), None)
        size = draft.settings.train.batch_size
        reached.append(
            {
                "score": score,
                "sequences": first and first["step"] * size,
                "core_seconds": first and first["core_seconds"],
            }
        )
    best = draft.accuracy_valid
    found = between(test.accuracy, floor, ceiling)
    return {
        "floor": floor,
        "ceiling": ceiling,
        "on_valid": {"floor": low, "ceiling": high},
        "test": found,
        "valid": None if best is None else on_valid(best),
        "learnt": found >= LEARNT,
        "reached": reached,
        "lengths": [at_length(draft.trainee, draft.settings, length) for length in exam.test_len],
        "kinds": kinds(exam, test),
    }


def at_length(trainee: Any, settings: Settings, length: int) -> dict[str, Any]:
    """The trained model on the exam's twin of that length. What keeps it from an answer is no failure of the run."""
    from lra.train.evaluate import evaluate

    row = {"length": length, "accuracy": None, "test": None, "refused": None}
    try:
        twin = trainee.exam.twin(length)
        found = evaluate(trainee.model, twin, "test", settings, trainee.acc)
    except Exception as error:
        return row | {"refused": first_line(error)[:300]}
    levels = twin.levels("test")
    return row | {"accuracy": found.accuracy, "test": None if levels is None else between(found.accuracy, *levels)}


def between(accuracy: float, floor: float, ceiling: float) -> float:
    return (accuracy - floor) / (ceiling - floor)


def kinds(exam: Any, test: Any) -> dict[str, Any]:
    which, right, found = exam.asked_kinds("test"), test.predictions == test.labels, {}
    if which is None:
        return found
    for number, kind in enumerate(exam.kinds):
        those = which == number
        if those.any():
            found[kind] = {"number": number, "accuracy": float(right[those].mean()), "items": int(those.sum())}
    return found
