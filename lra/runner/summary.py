"""The short table at the end of a run."""

from __future__ import annotations

from pathlib import Path

from lra import console
from lra.runner.draft import Run


def show(this: Run, status: str, reason: str | None, path: Path) -> list[tuple[str, float, float, float]]:
    """The short table at the end: accuracy among the floors, speed, memory, where the record lies.

    Returns its rows, best first: name, accuracy, 95 % interval from and to.
    """
    from lra.floors import score, scored
    from lra.marks.skill import best_floor, skill
    from lra.marks.stats import wilson

    facts = this.facts
    rows: list[tuple[str, float, float, float]] = []
    if facts.get("accuracy_test") is not None:
        score(this.cfg, this.exam, this.exam.rules(), facts=facts["data"])
        floors = {name: r.accuracy_test for name, r in scored(this.cfg, facts["data"]["fingerprint"]).items()}
        scores = {this.cfg.choices.model: facts["accuracy_test"]} | {f"floor: {n}": a for n, a in floors.items()}
        rows = [(name, a, *map(float, wilson(a, facts["items_test"]))) for name, a in scores.items()]
        rows.sort(key=lambda line: line[1], reverse=True)
        print(f"\n{this.exam.row}, {facts['items_test']} test items")
        lines = [[name, console.percent(a), f"{100 * low:.1f} to {100 * high:.1f}"] for name, a, low, high in rows]
        print(console.table(lines, ["", "accuracy", "95 % interval"]))
        floor = best_floor(floors.items(), this.exam.local_rules)
        if floor is None:
            print(f"skill: not known before python -m lra.floors task={this.cfg.choices.task} budget={this.cfg.budget}")
        elif (gained := skill(facts["accuracy_test"], floor[1])) is not None:
            print(f"skill: {gained:.3f} (0: {floor[0]}, 1: all right)")
    cost = facts.get("cost", {})
    if cost.get("status") == "ok":
        print(
            f"\n{console.rate(cost['train']['examples_per_second'])} training examples/s, "
            f"{console.rate(cost['inference']['examples_per_second'])} inference examples/s, "
            f"step peak {console.size(cost['step_peak_bytes'])}, {facts.get('parameters', 0):,} parameters"
        )
    print(f"status: {status}" + (f" ({reason})" if reason else ""))
    print(f"record: {path}", flush=True)
    return rows
