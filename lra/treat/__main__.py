"""Something done to a trained model, and what becomes of its answers, its speed and its memory: a derived record.

python -m lra.treat record=ID treatment=fake_quant [treatment.bits=4] [results_dir=…] [keep=best] [--dry-run]
python -m lra.treat table [results_dir=results[,more]] [--config-dir DIR]      what the records of a folder say

record: a run's id, or the path of its record, which kept its weights (keep=best). keep=best: the treated weights too.
data_dir, threads, device and --config-dir are as of a run. `python -m lra.list treatments` names what there is.
Exit codes: 0 ok, 1 a treatment failed, which is a record, 2 bad input.
"""

from __future__ import annotations

import sys

from lra.console import say
from lra.errors import code_of, guarded
from lra.settings.words import split

DRY = "--dry-run"


def main() -> int:
    words, config_dir = split(sys.argv[1:])
    if words[:1] == ["table"]:
        from lra.treat.table import main as table

        return table(sys.argv[2:])
    from lra.treat.asked import asked

    what = asked([w for w in words if w != DRY], config_dir)
    r = what.parent.sheet.record
    said = f"{what.label} of {r.model} on {r.row}, budget {r.budget}, seed {r.seed} ({r.run_id})"
    if DRY in words:
        print(f"would be made: {said}")
        return 0
    from lra.treat.derive import derived
    from lra.treat.table import shown

    say(said)
    found, path = derived(what)
    print("\n".join(shown(found)))
    print(f"status: {found.status}" + (f" ({found.reason})" if found.reason else ""))
    print(f"record: {path}", flush=True)
    return code_of(found.status)


if __name__ == "__main__":
    guarded(main, __doc__)
