"""The data of every task: where they are, what is missing, how to get them.

python -m lra.data list                        each task: source, size, licence, what to do
python -m lra.data prepare task=pathfinder     make, fetch or index a task's data, and check them
python -m lra.data verify [FOLDER]             all that was prepared, or the traps of a copy of the release
python -m lra.data fetch lra_release --only retrieval
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lra.data.places import columns, described, occupied, tasks
from lra.errors import UserError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parser() -> Parser:
    top = Parser("python -m lra.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True, parser_class=Parser)
    show = verbs.add_parser("list", help="each task: source, size, licence, what is missing and how to get it")
    make = verbs.add_parser("prepare", help="make, fetch or index the data of task=NAME[,NAME] or task=all")
    make.add_argument("--dry-run", action="store_true", help="say what is here and what would be made or fetched")
    for verb in (show, make):
        verb.add_argument("words", nargs="*", metavar="key=value", help="overrides, as for python -m lra")
        verb.add_argument("--config-dir", help="a folder with task/NAME.yaml of your own")
    look = verbs.add_parser("verify", help="read what was prepared, or a copy of the release, and say what is wrong")
    look.add_argument("folder", nargs="?", type=Path, help="the release, a folder above it, or one of its parts")
    get = verbs.add_parser("fetch", help="the official archive, 7.7 GB; goes on where it was interrupted")
    get.add_argument("what", choices=["lra_release"])
    get.add_argument("--only", metavar="LIST", help="what to unpack: listops,retrieval,pathfinder32/curv_baseline")
    get.add_argument("--to", type=Path, metavar="DIR", help="where to; default LRA_DATA or the user's cache")
    get.add_argument("--url", help="another address, or the archive where it lies on this machine")
    get.add_argument("--sha256", metavar="HEX", help="refuse an archive with another digest")
    get.add_argument("--discard", action="store_true", help="delete the archive once unpacked")
    get.add_argument("--dry-run", action="store_true", help="say what would be fetched and unpacked")
    return top


def listing(words: Sequence[str], folder: str | None) -> int:
    from lra.console import size

    rows, places, missing = [["task", "data", "on disk", "licence", "source"]], [], []
    for name, exam in tasks(words, "all", folder):
        facts = described(exam)
        found = facts["found"]
        state = "here" if found else "missing"
        rows.append([name, state, size(facts["bytes"]) if found else "-", facts["licence"], facts["source"]])
        if isinstance(found, Path):
            places.append(f"  {name}: {found}")
        elif not found:
            missing.append(f"  {name}: {facts['how']}")
    print(columns(rows))
    for title, lines in (("here:", places), ("missing, and how to get it:", missing)):
        if lines:
            print("\n".join(["", title, *lines]))
    return 0


def prepare(words: Sequence[str], folder: str | None) -> int:
    from lra.console import size
    from lra.tasks.base import counted

    failed = 0
    chosen_tasks = tasks(words, None, folder)
    for name, exam in chosen_tasks:
        try:
            counts = {split: counted(exam.split(split)) for split in ("train", "valid", "test")}
            fingerprint, notes = exam.fingerprint(), exam.notes()
        except ValueError as error:
            if len(chosen_tasks) == 1:
                raise UserError(str(error)) from error
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
            continue
        facts = described(exam)
        where = f"{facts['found']} ({size(facts['bytes'])})" if isinstance(facts["found"], Path) else facts["source"]
        shown = (f"{'endless' if count is None else f'{count:,}'} {split}" for split, count in counts.items())
        print(f"{exam.row}: {', '.join(shown)}")
        print(f"  where: {where}\n  fingerprint: {fingerprint}")
        for key, value in notes.items():
            print(f"  {key.replace('_', ' ')}: {value}")
    return 1 if failed else 0


def planned(words: Sequence[str], folder: str | None) -> int:
    """What `prepare` would do: of data that are here read and check them, of others make or fetch them."""
    from lra.console import size

    for name, exam in tasks(words, None, folder):
        facts = described(exam)
        if facts["found"] is None:
            print(f"{name}: would be made or fetched, from {facts['source']}: {facts['how']}")
        else:
            where = facts["found"] if isinstance(facts["found"], Path) else facts["source"]
            print(f"{name}: here, {where} ({size(facts['bytes'])})")
    print("nothing was prepared")
    return 0


def verify(folder: Path | None) -> int:
    """Exit code 1 if anything is wrong."""
    from lra.tasks import store

    if folder is not None:
        from lra.data.traps import check

        levels = []
        for finding in check(store.path(folder, "verify")):
            levels.append(finding.level)
            print(f"{finding.level:5} {finding.where}: {finding.text}")
        print(f"{levels.count('bad')} bad, {levels.count('note')} to know, {levels.count('ok')} ok")
        return 1 if "bad" in levels else 0
    from lra.console import size

    root, bad = store.data_dir(), 0
    stores = sorted(p.parent for p in root.glob(f"*/{store.MANIFEST}"))
    for each in stores:
        try:
            print(f"ok    {each}: {size(store.verify(each))}")
        except ValueError as error:
            bad += 1
            print(f"bad   {error}")
    print(f"{len(stores)} prepared in {root}, {bad} bad")
    return 1 if bad else 0


def fetch(arguments: argparse.Namespace) -> int:
    from lra.console import size
    from lra.data import release
    from lra.tasks import store

    to = store.path(arguments.to, "--to") if arguments.to else store.data_dir()
    if arguments.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", arguments.sha256):
        raise UserError(f"--sha256: {arguments.sha256!r} is not 64 hexadecimal digits")
    if arguments.dry_run:
        new, known, archive = release.missing(to, arguments.only, arguments.url)
        print(f"into {to}: {', '.join(new) or 'nothing'} would be unpacked, {len(known)} parts are there")
        first = f"the archive would come first, from {arguments.url or release.URL}; " * archive
        print(f"{first}nothing was fetched")
        return 0
    try:
        done = release.fetch(to, arguments.url, arguments.only, arguments.sha256, arguments.discard)
    except KeyboardInterrupt:
        print("lra: what has come is kept; the same command goes on from there", file=sys.stderr)
        raise
    archive = done["archive"]
    if archive:
        known = f", SHA-256 {archive['sha256']}" if archive.get("sha256") else ""
        print(f"archive: {archive['url']}, {size(archive['bytes'])}{known}")
    for part in done["known"]:
        print(f"{done['folder'] / part}: was there")
    for part in done["new"]:
        print(f"{done['folder'] / part}: unpacked, {size(occupied(done['folder'] / part))}")
    print(f"python -m lra.data verify {done['folder']} looks for what is known to go wrong with it")
    return 0


def main() -> int:
    arguments = parser().parse_args()
    try:
        if arguments.verb == "list":
            return listing(arguments.words, arguments.config_dir)
        if arguments.verb == "prepare":
            return (planned if arguments.dry_run else prepare)(arguments.words, arguments.config_dir)
        if arguments.verb == "verify":
            return verify(arguments.folder)
        return fetch(arguments)
    except ValueError as error:  # tasks speak in ValueErrors of one line
        raise UserError(str(error)) from error


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
