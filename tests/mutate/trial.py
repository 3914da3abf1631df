"""One mutant's verdict, and what all verdicts come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.mutate.cover import ordered, reaching, sha
from tests.mutate.sites import Mutant
from tests.mutate.tree import Overstepped, Tree

WANTED = 0.9
NONE_RAN = 5  # pytest's exit status
FIRST = 60.0  # seconds of work until the first test begins
SLACK, TIMES = 20.0, 5.0  # a test is at its end after its time under coverage, so many times, and this


def verdict(tree: Tree, mutant: Mutant, found: dict[str, Any]) -> dict[str, Any]:
    """The record of a mutant: caught by a test, by the time limit or by the end of the process; or survived.

    Whether a limit was overstepped for the mutant's sake is seen by the same test without it: where that oversteps
    too, the machine is busy and the verdict is "unsure", which counts as survived and is not kept.
    """
    source = (tree.path / mutant.file).read_text(encoding="utf-8")
    seconds = reaching(found, mutant.file, source, mutant.line)
    tests = ordered(seconds, mutant.file)
    out = {"id": mutant.id, "file": mutant.file, "line": mutant.line, "operator": mutant.operator}
    out |= {"was": mutant.was, "becomes": mutant.becomes, "diff": mutant.diff, "status": "survived", "by": None}
    out |= {"tests": len(tests), "of": len(seconds), "why": None}
    if tests:
        with tree.holding(mutant.file, mutant.source):
            out |= tried(tree, tests, seconds)
        if out["status"] == "timeout" and tried(tree, [out["by"]], seconds):
            out["status"] = "unsure"
    last = out["by"].split("::")[0] if out["by"] else None
    files = [last] if last else list(dict.fromkeys(name.split("::")[0] for name in tests))
    return out | {"with": {name: sha(tree.path / name) for name in [mutant.file, *files]}}


def tried(tree: Tree, tests: list[str], seconds: dict[str, float]) -> dict[str, Any]:
    now, out = tests[0], {}

    def limit(event: dict[str, Any]) -> float:
        return SLACK + TIMES * seconds[event["test"]] if "test" in event else FIRST

    try:
        for event in tree.ask({"kind": "try", "tests": tests}, limit):
            now = event.get("test", now)
            if "failed" in event and not out:
                out = {"status": "caught", "by": event["failed"], "why": event["why"]}
            if event.get("end", 0) not in (0, NONE_RAN) and not out:
                out = {"status": "caught", "by": now, "why": f"the process ended with {event['end']}"}
    except Overstepped:
        return out or {"status": "timeout", "by": now}
    return out


def valid(record: dict[str, Any], mutant: Mutant, root: Path, found: dict[str, Any]) -> bool:
    """Does an earlier verdict still hold? A survivor's not where other tests reach its line by now."""
    if record["status"] == "unsure" or any(sha(root / name) != was for name, was in record["with"].items()):
        return False
    if record["status"] != "survived":
        return True
    now = reaching(found, mutant.file, (root / mutant.file).read_text(encoding="utf-8"), mutant.line)
    return {name.split("::")[0] for name in ordered(now, mutant.file)} <= set(record["with"])


def argued(path: Path) -> dict[tuple[str, str, str, str], str]:
    """Mutant's key -> why no test can tell it from the original."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {(r["file"], r["operator"], r["was"], r["becomes"]): r["why"] for r in rows}


def summary(records: list[dict[str, Any]], why: dict[tuple[str, str, str, str], str]) -> tuple[str, bool]:
    """What is printed at the end, and whether it is good enough: equivalent ones count neither way."""
    left = [r for r in records if r["status"] not in ("caught", "timeout")]
    equal = [r for r in left if key(r) in why]
    left = [r for r in left if key(r) not in why]
    caught = len(records) - len(equal) - len(left)
    share = caught / max(caught + len(left), 1)
    lines = [f"\n{r['file']}:{r['line']} {r['operator']} ({r['tests']} tests)\n{short(r['diff'])}" for r in left]
    lines.append(
        f"\n{len(records)} mutants: {caught} caught, {len(equal)} argued equivalent, {len(left)} survive; "
        f"{100 * share:.1f} % caught, {100 * WANTED:.0f} % wanted"
    )
    return "\n".join(lines), share >= WANTED


def key(record: dict[str, Any]) -> tuple[str, str, str, str]:
    return record["file"], record["operator"], record["was"], record["becomes"]


def short(diff: str) -> str:
    return "\n".join(line for line in diff.splitlines()[2:] if not line.startswith("@@"))
