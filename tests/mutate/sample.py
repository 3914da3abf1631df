"""Which mutants: N of all sites by a hash, with a part that lies where a fault would falsify a table."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from tests.mutate.sites import Mutant, Site, made, sites

PLACES = ("lra", "models", "tasks")
# Where a fault is a wrong number in a table: what the sample has at least so many of.
WEIGHTY = {
    "statistics": ("lra/marks/*",),
    "masks": ("tasks/base.py", "models/parts/*", "lra/train/batches.py"),
    "splits": ("tasks/sampling.py", "tasks/*/exam.py", "tasks/*/pairs.py", "tasks/hub.py", "tasks/text.py"),
    "schedules": ("lra/train/optim.py",),
    "choice of checkpoint": ("lra/train/fit.py", "lra/train/checkpoint.py", "lra/train/evaluate.py"),
    "records": ("lra/record/*",),
    "table claims": ("lra/leaderboard/*",),
}
SHARE = 0.3  # 60 of 200


def weighty(file: str) -> str | None:
    """Which of the weighty matters a file is about; None if none."""
    return next((name for name, globs in WEIGHTY.items() if any(fnmatch(file, g) for g in globs)), None)


def sources(root: Path) -> dict[str, str]:
    """file -> text, of all that can be mutated."""
    paths = sorted(p for place in PLACES for p in (root / place).rglob("*.py"))
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def drawn(texts: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """The sample, in the order of the files. The same texts and seed give the same."""
    pool = [site for file, text in texts.items() for site in sites(file, text)]
    pool.sort(key=lambda site: site.rank(seed))
    must = taken([s for s in pool if weighty(s.file)], texts, round(SHARE * count), seed)
    every = taken(pool, texts, count, seed)
    ids = {m.id for m in must}
    rest = [m for m in every if m.id not in ids][: count - len(must)]
    return sorted([*must, *rest], key=lambda m: (m.file, m.line, m.id))


def taken(pool: list[Site], texts: dict[str, str], count: int, seed: int) -> list[Mutant]:
    out: list[Mutant] = []
    for site in pool:
        if len(out) == count:
            break
        mutant = made(site, texts[site.file], seed)
        if mutant is not None:
            out.append(mutant)
    return out
