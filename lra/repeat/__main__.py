"""Do a recorded run again, in a folder of its own, and say what agrees to the bit, what does not, and why not.

python -m lra.repeat RECORD                    a record's id, the beginning of one, or its file
    results_dir=results   where the record lies
    out=repeats           where to: out/ID, whose records and weights stay; what was recorded is never touched
    --at-commit           with the code of the record's commit, where what computes has changed since
    --dry-run             say the command and what can agree here, and do nothing
    data_dir=, task.path=, checkpoint=, --config-dir=      where things lie here that a record names without their place

Exit codes: 0 all agrees that should, 1 something does not, 2 bad input.
"""

from __future__ import annotations

import sys

from lra import console
from lra.errors import INTERRUPTED, guarded
from lra.repeat import agree, asked, code


def main() -> int:
    wanted = asked.of(sys.argv[1:])
    record = wanted.record
    print(f"record: {record.run_id}, {record.model} on {record.row}, budget {record.budget}, seed {record.seed}")
    print(f"command{'' if record.command else ', from its configuration'}: {wanted.command}")
    changed = code.changed(record)
    if wanted.dry:
        return said(wanted, changed)
    with code.of(record, wanted.at_commit and changed != []) as environment:
        if environment is None and changed:
            print(f"what computes has changed since its commit ({code.shown(changed)}); --at-commit takes its code")
        new = asked.done(wanted, environment)
    if new is None:
        return INTERRUPTED
    found = agree.Findings.of(record, new[1], changed if environment is None else [])
    print("\n".join(["", f"repeated: {new[0]}", *found.lines()]))
    return 0 if found.good else 1


def said(wanted: asked.Wanted, changed: list[str] | None) -> int:
    """What would be done."""
    record = wanted.record
    reasons = agree.reasons(record, agree.here(record))
    if changed:
        reasons.append(f"code: {code.shown(changed)}" + " (of no matter with --at-commit)" * wanted.at_commit)
    seconds = record.wall_seconds.get("total")
    time = "-" if seconds is None else f"about {console.duration(seconds)}, as recorded"
    print(f"nothing was run: into {wanted.out}; {time}")
    print("what is learnt can agree to the bit here" if not reasons else f"may differ here: {'; '.join(reasons)}")
    return 0


if __name__ == "__main__":
    guarded(main, __doc__)
