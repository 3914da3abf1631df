"""Ways to have a run done by another process: one file each, chosen by a file in configs/launcher.

A launcher is a class with one method

    launch(job, seconds) -> (exit code, was it cut off?)

which has the run done, to its end or for that many seconds (null: as long as it takes), and returns when
its record, if it leaves one, can be read. Exit codes are those of `python -m lra`.
"""
