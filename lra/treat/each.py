"""Several treatments of several parents, one after the other: what is recorded already is not done again, and what
cannot be begun is told and costs nothing but its own row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lra.console import say
from lra.errors import UserError
from lra.marks import derived
from lra.record.record import Record
from lra.treat.asked import Asked
from lra.treat.derive import once
from lra.treat.table import rendered, shown


def each(jobs: Sequence[Asked]) -> int:
    """The exit code: 0 where all ended well, now or before."""
    done: list[tuple[Record, Path, bool]] = []
    refused = 0
    for number, job in enumerate(jobs, 1):
        before = f"[{number}/{len(jobs)}] " if len(jobs) > 1 else ""
        say(f"{before}{job.label}")
        try:
            done.append(once(job))
        except UserError as error:
            if len(jobs) == 1:
                raise
            refused += 1
            say(f"{before}refused: {error}")
            continue
        found, path, _ = done[-1]
        if found.status != "ok":
            say(f"{before}{found.status}: {found.reason} ({path})")
    if len(jobs) == 1:
        found, path, there = done[0]
        print("\n".join(shown(found)))
        print(f"status: {found.status}" + (f" ({found.reason})" if found.reason else ""))
        print(f"record: {path}" + " (there already)" * there, flush=True)
    else:
        print("\n".join(told([found for found, _, _ in done], jobs)))
        there = sum(known for _, _, known in done)
        print(f"{len(jobs)} derived records: {len(done) - there} made, {there} there already, {refused} refused")
    return int(refused > 0 or any(found.status != "ok" for found, _, _ in done))


def told(found: Sequence[Record], jobs: Sequence[Asked]) -> list[str]:
    """The table of these."""
    above = {(r := job.parent.sheet.record).run_id: r.accuracy_test for job in jobs}
    if not found:
        return []
    trained = pd.DataFrame(list(above.items()), columns=["run_id", "accuracy"])
    return rendered(derived.frame([derived.row(r, False) for r in found], trained))
