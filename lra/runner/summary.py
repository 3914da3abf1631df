"""The short table at the end of a run."""

from __future__ import annotations

from pathlib import Path

from lra import console, floors
from lra.marks.skill import best_floor, shown, skill
from lra.marks.stats import wilson
from lra.runner.draft import Draft

Row = tuple[str, float, float, float]  # name, accuracy, 95 % interval from and to


def show(draft: Draft, status: str, reason: str | None, path: Path) -> list[Row]:
    """Print accuracy among the floors, speed, memory, and where the record lies. The rows, best first."""
    rows = _accuracies(draft) if draft.accuracy_test is not None else []
    if known := {name.replace("_", " "): value for name, value in draft.noted.items() if value is not None}:
        print("\n" + ", ".join(f"{name} {value:.4g}" for name, value in known.items()))
    cost = draft.cost
    if cost.get("status") == "ok":
        print(
            f"\n{console.rate(cost['train']['examples_per_second'])} training examples/s, "
            f"{console.rate(cost['inference']['examples_per_second'])} inference examples/s, "
            f"step peak {console.size(cost['step_peak_bytes'])}, {console.parameters(draft)}"
        )
    print(f"status: {status}" + (f" ({reason})" if reason else ""))
    print(f"record: {path}", flush=True)
    return rows


def _accuracies(draft: Draft) -> list[Row]:
    settings, exam = draft.settings, draft.exam
    floors.score(settings, exam, exam.rules(), facts=draft.data)
    known = {name: r.accuracy_test for name, r in floors.scored(settings, draft.data["fingerprint"]).items()}
    scores = {settings.choices.model: draft.accuracy_test} | {f"floor: {n}": a for n, a in known.items()}
    rows = [(name, a, *map(float, wilson(a, draft.items_test))) for name, a in scores.items()]
    rows.sort(key=lambda line: line[1], reverse=True)
    print(f"\n{exam.row}, {draft.items_test} test items")
    lines = [[name, console.percent(a), f"{100 * low:.1f} to {100 * high:.1f}"] for name, a, low, high in rows]
    print(console.table(lines, ["", "accuracy", "95 % interval"]))
    floor = best_floor(known.items(), exam.local_rules)
    if floor is None:
        print(f"skill: not known before python -m lra.floors task={settings.choices.task} budget={settings.budget}")
    elif (gained := skill(draft.accuracy_test, floor[1])) is not None:
        print(f"skill: {shown(gained, 3)} (0: {floor[0]}, 1: all right)")
    return rows
