"""Ways to have a run done by another process: one file each, chosen by a file in configs/launcher.

A launcher is a class with one method

    launch(job, seconds, over) -> lra.runner.keeper.End

which has the run done, to its end or for that many seconds (null: as long as it takes), and returns when
its record, if it leaves one, can be read. over: the number of a claim that is known to be nobody's
(lra.record.claim), 0 for none. Exit codes are those of `python -m lra`. One that can do several runs at
once says how many by an attribute `workers`; then `launch` is called from as many threads.
"""
