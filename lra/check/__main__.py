"""python -m lra.check model=NAME: does this model keep the contract, and what is it like?

    python -m lra.check model=performer
    python -m lra.check model=mine --config-dir my_configs size.dim=128

Options are those of a run (`key=value`); the model is built by itself, without its task. Prints a
card and writes it as JSON, by default to OUTPUT_DIR/check/NAME.json. About a minute on two cores.

Exit codes: 0 the contract holds, 1 it is broken, 2 bad input.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from lra.check.card import audited, chosen
from lra.errors import guarded
from lra.settings import compose
from lra.settings.own import Asked


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lra.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for a run; model=NAME above all")
    parser.add_argument("--config-dir", help="a folder with model/NAME.yaml of your own")
    parser.add_argument("--json", type=Path, help="where to write the card")
    parser.add_argument("--length", type=int, default=1024, help="max_len of all points but growth (1024)")
    parser.add_argument("--only", metavar="POINT,...", help="ask these points alone, by the names on the card")
    parser.add_argument("--dry-run", action="store_true", help="say what would be asked, and ask nothing")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    what = Asked(tuple(options.overrides), options.config_dir)
    if options.answer:
        from lra.check.contract import answer
        from lra.check.subject import Subject

        print(json.dumps(answer(Subject(compose.config(what.words, what.config_dir), options.length))))
        return 0
    if options.dry_run:
        return said(what, options.only.split(",") if options.only else None)
    card = audited(what, options.length, options.only.split(",") if options.only else None, partial(print, flush=True))
    path = options.json or Path(card.config["output_dir"]) / "check" / card.file
    card.write(path)
    print(f"{card.verdict} ({card.seconds:.0f} s; {path})")
    return 0 if card.holds else 1


def said(what: Asked, only: list[str] | None) -> int:
    """What would be asked of which model."""
    settings = compose.config(what.words, what.config_dir)
    names = chosen(what, only)
    print(f"nothing was asked: {settings.choices.model} would be, on {len(names)} points: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    guarded(main)
