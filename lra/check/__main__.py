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
import time
from pathlib import Path

from lra.check.card import MARKS, all_points, ask, write
from lra.errors import UserError, guarded, nearest


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lra.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for a run; model=NAME above all")
    parser.add_argument("--config-dir", help="a folder with model/NAME.yaml of your own")
    parser.add_argument("--json", type=Path, help="where to write the card")
    parser.add_argument("--length", type=int, default=1024, help="max_len of all points but growth (1024)")
    parser.add_argument("--only", metavar="POINT,...", help="ask these points alone, by the names on the card")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    if options.length < 2:
        raise UserError(f"--length: {options.length} is not at least 2")
    # Composing needs no torch: what is wrong with the words is said at once.
    from lra.settings.compose import config, plain

    cfg = config(options.overrides, options.config_dir)
    asked = all_points(options.overrides, options.config_dir)
    for name in options.only.split(",") if options.only else ():
        if name not in asked:
            raise UserError(f"--only: {name!r} is not one of {', '.join(asked)}.{nearest(name, asked)}")
    from lra.check.contract import answer
    from lra.check.subject import Subject

    subject = Subject(cfg, options.length)
    built = subject.build()
    if options.answer:
        print(json.dumps(answer(subject)))
        return 0
    if not hasattr(built, "stack"):
        raise UserError(f"model: {type(built).__name__} has no `stack` to audit (models.classifier.Classifier has)")
    name = cfg.choices.model
    body = cfg.model
    print(f"{name}: {body.depth} layers, width {body.dim}, {body.heads} heads, {body.position} positions", flush=True)
    start, findings = time.perf_counter(), []
    for point, function in asked.items():
        if options.only and point not in options.only.split(","):
            continue
        for finding in ask(point, function, subject):
            findings.append(finding)
            print(f"  {MARKS[finding.status]}  {finding.name:<13} {finding.text}", flush=True)
    broken = [f.name for f in findings if f.status == "fail"]
    verdict = f"broken: {', '.join(broken)}" if broken else "the contract holds"
    path = options.json or Path(cfg.output_dir) / "check" / f"{name}.json"
    write(path, {"model": name, "holds": not broken, "length": options.length, "config": plain(cfg)}, findings, start)
    print(f"{verdict} ({time.perf_counter() - start:.0f} s; {path})")
    return 1 if broken else 0


if __name__ == "__main__":
    guarded(main)
