"""Something done to a trained model, and what becomes of its answers, its speed and its memory: a derived record.

python -m lra.treat record=ID treatment=fake_quant [treatment.bits=4] [results_dir=…] [keep=best] [--dry-run]
python -m lra.treat record=ID,ID,20260101T* treatment=bf16,heads,neurons     each of each; again: what is missing
python -m lra.treat model=linear,gla task=recall budget=treat seed=0 'treatment=*'
python -m lra.treat model=linear treatment=fake_quant treatment.bits=2,4,8
python -m lra.treat table [results_dir=results[,more]] [--config-dir DIR]      what the records of a folder say

record: ids of runs, or paths of their records, or globs of either; or model, task, budget, seed, names and globs.
They kept their weights (keep=best); of several, those that cannot be treated are told and left out. keep=best: the
treated weights too. What is recorded is not done again, but for rerun=failed and rerun=all. data_dir, threads, device
and --config-dir are as of a run. `python -m lra.list treatments` names what there is.
Exit codes: 0 ok, 1 a treatment failed, which is a record, or of several one was refused, 2 bad input.
"""

from __future__ import annotations

import sys

from lra.console import line, say
from lra.errors import guarded
from lra.settings.words import split

DRY = "--dry-run"


def main() -> int:
    words, config_dir = split(sys.argv[1:])
    if words[:1] == ["table"]:
        from lra.treat.table import main as table

        return table(sys.argv[2:])
    from lra.treat.asked import jobs

    what = jobs([w for w in words if w != DRY], config_dir)
    for text in what.left:
        say(line(f"left out: {text}"))
    if DRY in words:
        from lra.treat.known import known

        for job in what.jobs:
            print(f"{'there already' if known(job) else 'would be made'}: {job.label}")
        return 0
    from lra.treat.each import each

    return each(what.jobs)


if __name__ == "__main__":
    guarded(main, __doc__)
