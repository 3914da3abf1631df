"""What answers without a model score: rows of the same table as the models.

python -m lra.floors task=listops          the task's rules, recorded
python -m lra.floors task=all              every task whose data are at hand
    --dry-run                              which rules there are, without looking at data
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from lra.machine.facts import commit as commit_of
from lra.machine.facts import versions
from lra.record import store
from lra.record.record import Record
from lra.settings import again, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain


def scored(settings: Settings, fingerprint: str) -> dict[str, Record]:
    """The rules already recorded for this task on these data, by name."""
    return {
        r.model: r
        for _, r in store.find(settings.results_dir, settings.choices.task)
        if r.kind == "floor" and r.data.get("fingerprint") == fingerprint and r.status == "ok"
    }


def score(
    settings: Settings, exam: Any, rules: dict[str, Callable[..., Any]], facts: dict[str, Any] | None = None
) -> list[Record]:
    """Records of the rules, from the results folder where they already are, else made now.

    A rule is scored on the whole test split; its record says on which data.
    """
    known = scored(settings, exam.fingerprint())
    commit, dirty = commit_of()
    done = []
    for name, rule in rules.items():
        if name in known:
            done.append(known[name])
            continue
        started, run_id = store.new_id()
        begin = time.perf_counter()
        test = exam.split("test")
        asked = test.labels >= 0  # where answers stand at positions, those that are asked for
        answers = rule(exam.split("train"), test)[asked]
        right = (answers == test.labels[asked]).mean()
        config = identity.portable(plain(settings))
        entry = Record(
            run_id=run_id,
            started_utc=started,
            kind="floor",
            status="ok",
            task=settings.choices.task,
            model=name,
            budget=settings.budget,
            row=exam.row,
            seed=settings.seed,
            config={"task": config["task"], "budget": settings.budget, "exam": config["exam"]},
            config_hash=identity.digest([config["task"], name]),
            data=facts or data_facts(exam),
            accuracy_test=float(right),
            noted=exam.of_answers(answers, test.labels[asked]),
            local=name in exam.local_rules,
            items_test=int(asked.sum()),
            versions=versions(),
            commit=commit,
            dirty=dirty,
            command=again.rules(settings),
            wall_seconds={"total": round(time.perf_counter() - begin, 3)},
        )
        store.write(settings.results_dir, entry)
        done.append(entry)
    return done


def _noted(r: Record) -> list[str]:
    return [f"{name} {value:.1f}" for name, value in r.noted.items() if value is not None]


def data_facts(exam: Any) -> dict[str, Any]:
    """What identifies the data, and what a reader should know of them."""
    from lra.tasks.base import counted  # and torch with it

    return {
        "fingerprint": exam.fingerprint(),
        "vocabulary": exam.vocabulary,
        "vocab_size": exam.vocab_size,
        "items": {name: counted(exam.split(name)) for name in ("train", "valid", "test")},
        "cut_items": {name: getattr(exam.split(name), "truncated", None) for name in ("train", "valid", "test")},
        "notes": exam.notes(),
    }


def main() -> int:
    from lra.console import duration, percent, table
    from lra.errors import UserError
    from lra.settings import build, compose
    from lra.settings.words import choices, split
    from lra.settings.words import dry as dry_of

    dry, given = dry_of(sys.argv[1:])
    words, folder = split(given)
    chosen = [w.partition("=")[2] for w in words if w.startswith("task=")] or ["all"]
    rest = [w for w in words if not w.startswith("task=")]
    names = choices("task", folder) if chosen == ["all"] else chosen[0].split(",")
    failed, scored_as = [], {}
    for name in names:
        settings = compose.config([f"task={name}", *rest], folder)
        exam = build.task(settings)
        if dry:
            names_of = [*exam.rules(), *exam.learned_rules()]
            print(f"{name}: nothing was scored; {len(names_of)} rules, less what is recorded: {', '.join(names_of)}")
            continue
        try:
            # A copy of CIFAR-10 that turns out to be JPEG is the exam image_jpeg under either name: the
            # fingerprint comes first because the row knows of it once the data are read.
            first = scored_as.setdefault((exam.fingerprint(), exam.row), name)
            if first != name:
                print(f"{name}: the data that task={first} found, above\n", flush=True)
                continue
            rules = exam.rules() | exam.learned_rules()
            rows = score(settings, exam, rules)
        except ValueError as error:
            if len(names) == 1:
                raise UserError(str(error)) from error
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(f"{exam.row} ({rows[0].items_test} test items)" if rows else f"{exam.row}: no rules")
        lines = [
            [
                r.model,
                percent(r.accuracy_test),
                *_noted(r),
                "local" if r.local else "",
                duration(r.wall_seconds["total"]),
            ]
            for r in sorted(rows, key=lambda r: r.accuracy_test)
        ]
        print(table(lines) + "\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
