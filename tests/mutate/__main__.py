"""python -m tests.mutate: the sample, its verdicts, exit status 1 where fewer than nine of ten are caught."""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from tests.mutate.cover import measured, test_files
from tests.mutate.sample import drawn, sources, weighty
from tests.mutate.sites import Mutant
from tests.mutate.tree import Tree
from tests.mutate.trial import argued, key, summary, valid, verdict

ROOT = Path(__file__).resolve().parents[2]


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="mutants in the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PLACE", help="of the sample those in lra/marks ...")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PLACE", help="with the tests in these alone")
    parser.add_argument("--jobs", type=int, default=1, help="trees that are worked in at a time")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "mutate", help="copies, and what was found")
    parser.add_argument("--list", action="store_true", help="show the sample and run nothing")
    return parser.parse_args(words)


def say(text: str) -> None:
    print(text, flush=True)


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    sample = [m for m in drawn(sources(ROOT), given.count, given.seed) if m.file.startswith(tuple(given.only))]
    say(f"{len(sample)} mutants, {sum(weighty(m.file) is not None for m in sample)} where a table would be wrong")
    if given.list:
        say("\n".join(f"{m.id}  {m.file}:{m.line}  {m.operator}\n  - {m.was}\n  + {m.becomes}" for m in sample))
        return 0
    why = argued(Path(__file__).parent / "equivalent.json")
    records = run(sample, given, set(why))
    text, enough = summary(records, why)
    say(text)
    return 0 if enough else 1


def run(sample: list[Mutant], given: argparse.Namespace, equivalent: set[Any]) -> list[dict[str, Any]]:
    """Every mutant's record; the list on disk is whole after each, so that a run that is killed goes on."""
    results = given.work / "results.json"
    trees = [Tree(ROOT, given.work / f"tree{i}") for i in range(given.jobs)]
    files = [name for name in test_files(ROOT) if name.startswith(tuple(given.tests))]
    found = measured(trees[0], given.work / "cover", say, files)
    kept = {r["id"]: r for r in json.loads(results.read_text())} if results.exists() else {}
    waiting: queue.Queue[Mutant] = queue.Queue()
    for mutant in sample:
        old = kept.get(mutant.id)
        if old is None or (not valid(old, mutant, ROOT, found) and key(old) not in equivalent):
            waiting.put(mutant)
    lock = threading.Lock()

    def work(tree: Tree) -> None:
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            record = verdict(tree, mutant, found)
            with lock:
                kept[mutant.id] = record
                results.with_suffix(".new").write_text(json.dumps(list(kept.values()), indent=1))
                results.with_suffix(".new").replace(results)
                say(f"{record['status']:9}{mutant.file}:{mutant.line} {mutant.operator} by {record['by']}")

    threads = [threading.Thread(target=work, args=(tree,)) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tree in trees:
        tree.stop()
    return [kept[m.id] for m in sample]


if __name__ == "__main__":
    sys.exit(main())
