"""Speed and peak memory of one training step.

python -m lra.measure task=listops model=performer [--config-dir DIR]    prints what a run would record
    --dry-run                                         what would be measured
python -m lra.measure --self-test                     measures programs whose answer is known
"""

from __future__ import annotations

import json
import sys

from lra.errors import guarded
from lra.settings.schema import Settings


def main() -> int:
    if sys.argv[1:2] == ["--self-test"]:
        from lra.measure.selftest import main as self_test

        return self_test(sys.argv[2:])
    from lra.measure.alone import measure
    from lra.settings import compose
    from lra.settings.typed import plain
    from lra.settings.words import dry as dry_of
    from lra.settings.words import split

    dry, words = dry_of(sys.argv[1:])
    settings = compose.config(*split(words))
    if dry:
        return said(settings)
    result = measure(plain(settings))
    print(json.dumps(result.asdict(), indent=1))
    return 0 if result.ok else 1


def said(settings: Settings) -> int:
    """What would be measured, of a model that is built without its weights."""
    from lra.settings import build

    exam = build.task(settings)
    net = build.outline(settings, exam)
    size = "-" if net is None else f"{sum(p.numel() for p in net.parameters()):,}"
    batch = settings.measure.batch_size or settings.train.batch_size
    asked = settings.measure
    what = f"batches of {batch} examples of {exam.max_len} tokens"
    print(f"{settings.choices.model} on {exam.row}: {size} parameters, {what}")
    print(f"nothing was measured: of each phase {asked.steps} steps would be, or as many as {asked.seconds:g} s hold")
    return 0


if __name__ == "__main__":
    guarded(main, __doc__)
