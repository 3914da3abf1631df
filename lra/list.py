"""What there is, a line each, from the files that are its only registry.

python -m lra.list models [--config-dir mine]        or tasks, budgets, sweeps, treatments, launchers
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lra import console
from lra.errors import UserError, guarded
from lra.root import CONFIGS
from lra.settings.words import choices, split

GROUPS = ("models", "tasks", "budgets", "sweeps", "treatments", "launchers")
LONGEST = 160  # of what is said of one


def listed(group: str, config_dir: str | None = None) -> list[tuple[str, str]]:
    """(name, what its file says of it) of each file of a group; where two folders have one, the user's own counts."""
    places = [Path(config_dir), CONFIGS] if config_dir else [CONFIGS]
    files = {n: next(f for p in places if (f := p / group / f"{n}.yaml").is_file()) for n in choices(group, config_dir)}
    return [(name, said(path.read_text(errors="replace"))) for name, path in files.items()]


def said(text: str) -> str:
    """The first sentence of the first comment of a file; empty where it has none."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# @") and not lines:
            continue
        if not line.startswith("#") or line.lstrip("# ").startswith("python -m"):
            break
        lines.append(line.lstrip("# "))
    # A full stop ends it before a capital or an option, and not behind a single letter: "et al. 2020", "S. Gu".
    sentence = re.split(
        r"(?:(?<=[\w)]{2})|(?<= \d))[.;](?= [A-Z(]| [a-z_.]+[:=]| *$)|:(?= |$)", " ".join(lines), maxsplit=1
    )[0]
    return console.line(sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1].rstrip()}…")


def main() -> None:
    words, config_dir = split(sys.argv[1:])
    if len(words) != 1 or words[0] not in GROUPS:
        raise UserError(f"list: {' '.join(words) or 'nothing'} is not one of {', '.join(GROUPS)}")
    if config_dir is not None and not Path(config_dir).is_dir():
        raise UserError(f"--config-dir: {config_dir} is not a folder")
    found = listed(words[0].removesuffix("s"), config_dir)
    width = max((len(name) for name, _ in found), default=0)
    print("\n".join(f"{name.ljust(width)}  {text}".rstrip() for name, text in found))


if __name__ == "__main__":
    guarded(main)
