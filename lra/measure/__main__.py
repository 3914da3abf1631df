"""Speed and peak memory of one training step.

python -m lra.measure task=listops model=performer [--config-dir DIR]    prints what a run would record
python -m lra.measure --self-test                     measures programs whose answer is known
"""

from __future__ import annotations

import json
import sys

from lra.errors import guarded


def main() -> int:
    if sys.argv[1:2] == ["--self-test"]:
        from lra.measure.selftest import main as self_test

        return self_test(sys.argv[2:])
    from lra.measure.alone import measure
    from lra.settings import compose
    from lra.settings.typed import plain
    from lra.settings.words import split

    settings = compose.config(*split(sys.argv[1:]))
    result = measure(plain(settings))
    print(json.dumps(result.asdict(), indent=1))
    return 0 if result.ok else 1


if __name__ == "__main__":
    guarded(main, __doc__)
