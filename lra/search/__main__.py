"""Which shape of which mixer fits a bound of latency and memory? Measured, predicted, searched, measured again.

    python -m lra.search latency=20ms memory=64MiB task=listops [model=transformer,linear,local,s4d] [--dry-run]
        [size.depth=1,2,4] [size.dim=32,64,128] [size.heads=1,2,4] [lengths=512,1024] [shapes=24] [seconds=1]
        [budget=race] [threads=1] [results_dir=…] [--config-dir mine]

latency (us, ms, s) and memory (KiB, MiB, GiB; of weights and what a step holds) are of inference on one example of the
task's full length; one of them is enough. A grid is measured first, `shapes` sizes of each model at each length with
`seconds` of timing each, and kept in results_dir/search: the same command goes on where it was stopped. From it cost is
predicted; how well, for shapes and mixers held out, is shown. Of each mixer the shape with most parameters within the
bounds is searched, measured, and named with the command that trains it. Exit codes: 0 a shape was found, 1 none, 2 bad
input.
"""

from __future__ import annotations

import sys

from lra.errors import guarded
from lra.settings.words import dry


def main() -> int:
    only_told, words = dry(sys.argv[1:])
    from lra.search.asked import asked
    from lra.search.run import Run

    run = Run(asked(words))
    if only_told:
        print(run.ahead())
        return 0
    return run.done()


if __name__ == "__main__":
    guarded(main, __doc__)
