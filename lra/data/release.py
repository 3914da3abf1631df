"""The official archive, lra_release: its parts, how they are fetched and unpacked."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lra.data.download import bar, digest, download, room
from lra.errors import UserError, nearest
from lra.tasks import files, store

URL = "https://storage.googleapis.com/long-range-arena/lra_release.gz"
FOLDER = "lra_release"
ARCHIVE = "lra_release.gz"
NOTES = "lra_release.json"  # beside the folder: where it came from, and what of it is unpacked
PARTS = ("listops-1000", "tsv_data", "pathfinder32", "pathfinder64", "pathfinder128", "pathfinder256")
ALIASES = {
    "listops": "listops-1000",
    "retrieval": "tsv_data",
    "pathfinder": "pathfinder32",
    "pathx": "pathfinder128",
    "pathx256": "pathfinder256",
}
DAMAGED = (EOFError, lzma.LZMAError, zlib.error, tarfile.TarError, OSError)


def parts(only: str | None) -> list[str]:
    """Folders of the release from a list such as "listops,pathfinder32/curv_baseline"; None: all."""
    if only is None:
        return list(PARTS)
    chosen = []
    for word in filter(None, only.replace(" ", "").split(",")):
        top, slash, rest = word.strip("/").partition("/")
        top = ALIASES.get(top, top)
        if top not in PARTS or ".." in rest:
            known = [*ALIASES, *PARTS]
            raise UserError(f"--only: {word!r} is not one of {', '.join(known)}, nor below one.{nearest(top, known)}")
        chosen.append(top + slash + rest)
    if not chosen:
        raise UserError(f"--only: {only!r} names nothing; allowed are {', '.join([*ALIASES, *PARTS])}")
    # A folder makes those below it superfluous.
    return [p for p in dict.fromkeys(chosen) if not any(p != q and f"{p}/".startswith(f"{q}/") for q in chosen)]


def fetch(
    to: Path, url: str | None = None, only: str | None = None, sha256: str | None = None, discard: bool = False
) -> dict[str, Any]:
    """Have the `only` parts of the release in TO/lra_release, fetching the archive if it must be.

    `url` may be a file at hand; None: the official one. The archive stays at TO/lra_release.gz for the parts not
    asked for yet, unless `discard`. Returns {"folder", "new": parts unpacked now, "known": parts that were there}.
    Raises UserError, also where what is there came from another `url` or has another `sha256`.
    """
    from filelock import FileLock, Timeout

    wanted = parts(only)
    root = to / FOLDER
    local = _local(url)
    try:
        to.mkdir(parents=True, exist_ok=True)
        with FileLock(to / f".{FOLDER}.lock", timeout=0):
            notes = _read(to / NOTES)
            known = [p for p in wanted if p in notes["parts"] and (root / p).is_dir()]
            new = [p for p in wanted if p not in known]
            if known:
                _agree([root / p for p in known], notes["archive"], str(local or url or "") or None, sha256)
            if new:
                archive = local or to / ARCHIVE
                if local or archive.exists():
                    notes["archive"] = _at_hand(archive, local, notes["archive"] or {}, url, sha256)
                else:
                    notes["archive"] = download(url or URL, archive, sha256)
                _write(to / NOTES, notes)
                notes["parts"] |= unpack(archive, root, new)
                _write(to / NOTES, notes)
            if discard:
                (to / ARCHIVE).unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(f"{to}: another process is fetching the release there") from error
    except OSError as error:
        why = f"{error.filename or to} cannot be written ({error.strerror or error})"
        raise UserError(f"{why}; choose another place with --to or LRA_DATA") from error
    return {"folder": root, "new": new, "known": known, "archive": notes["archive"]}


def missing(to: Path, only: str | None = None, url: str | None = None) -> tuple[list[str], list[str], bool]:
    """(parts that `fetch` would unpack, parts that are there, whether the archive would have to come first)."""
    root, wanted = to / FOLDER, parts(only)
    notes = _read(to / NOTES)
    known = [p for p in wanted if p in notes["parts"] and (root / p).is_dir()]
    new = [p for p in wanted if p not in known]
    return new, known, bool(new) and _local(url) is None and not (to / ARCHIVE).exists()


def _local(url: str | None) -> Path | None:
    """The file that a URL is the path of; None for the address of another machine."""
    if url is None or "://" in url:
        return None
    file = Path(url).expanduser() if not url.startswith("~") or url.startswith("~/") else Path(url)
    if not file.is_file():
        raise UserError(f"--url: {url!r} is neither an address (https://...) nor a file on this machine")
    return file.resolve()


def _at_hand(
    archive: Path, local: Path | None, known: dict[str, Any], url: str | None, sha256: str | None
) -> dict[str, Any]:
    """Facts of an archive that is there, held against the `url` and `sha256` asked for. Raises UserError."""
    origin = str(local) if local else known.get("url")
    if url is not None and not local and origin != url:
        whence = f"from {origin}" if origin else "from where, nothing says"
        raise UserError(f"--url: {archive} is here already, {whence}; delete it to fetch {url}, or leave --url out")
    facts = {"url": origin or str(archive), "bytes": archive.stat().st_size}
    if sha256 is not None:
        facts["sha256"] = digest(archive)
        if facts["sha256"] != sha256.lower():
            mend = "give another file by --url" if local else "delete it to fetch it again"
            raise UserError(f"--sha256: {archive}: its SHA-256 is not {sha256} but {facts['sha256']}; {mend}")
    same = known if (known.get("url"), known.get("bytes")) == (facts["url"], facts["bytes"]) else {}
    return same | facts


def _agree(folders: list[Path], known: dict[str, Any] | None, url: str | None, sha256: str | None) -> None:
    """Raise UserError where parts that are there came from elsewhere than asked for."""
    there, known = ", ".join(map(str, folders)), known or {}
    for option, asked, noted in (
        ("--url", url, known.get("url")),
        ("--sha256", sha256 and sha256.lower(), known.get("sha256")),
    ):
        if asked is not None and asked != noted:
            whence = f"from an archive with {noted}" if noted else "and nothing says of which archive"
            raise UserError(
                f"{option}: {there}: here already, {whence}; delete it to have it of {asked}, or leave {option} out"
            )


def unpack(archive: Path, root: Path, wanted: Sequence[str]) -> dict[str, dict[str, int]]:
    """Unpack the `wanted` folders below `root`; {part: {"files", "bytes"}}.

    The archive holds lra_release/lra_release, and beside the inner folder a second listops-1000
    and a second pathfinder128 whose labels cannot be learnt (issue 38 of
    google-research/long-range-arena): where a part occurs at two depths, the inner one is taken.
    Only regular files are written, to paths made of plain names. A part appears by a rename, whole.
    """
    draft = root.with_name(f".{root.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        found, others = _unpack(archive, draft, wanted)
        missing = [p for p in wanted if p not in found]
        if missing:
            raise UserError(
                f"{archive} holds no {', '.join(missing)}; it holds {', '.join(sorted(others)) or 'nothing'}"
            )
        os.sync()  # no file may be found empty after a power cut that the rename survives
        for part, (depth, _) in found.items():
            _replace(root / part, draft / str(depth) / part)
        return {part: counts for part, (_, counts) in found.items()}
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unpack(
    archive: Path, draft: Path, wanted: Sequence[str]
) -> tuple[dict[str, tuple[int, dict[str, int]]], set[str]]:
    """Files of the wanted parts to DRAFT/DEPTH/PART/...; the depth and counts taken of each part,
    and the names of all parts seen."""
    counts: dict[tuple[str, int], dict[str, int]] = {}
    seen: set[str] = set()
    prefixes = [tuple(part.split("/")) for part in wanted]
    try:
        with (
            archive.open("rb") as raw,
            bar(archive.stat().st_size, f"unpacking {archive.name}") as progress,
            tarfile.open(fileobj=raw, mode="r|*", tarinfo=files.Member) as tar,
        ):
            for member in tar:
                progress.update(raw.tell() - progress.n)
                depth, names = _place(member.name)
                if not names or not member.isfile():
                    continue
                seen.add(names[0])
                for prefix in prefixes:
                    if names[: len(prefix)] != prefix:
                        continue
                    _copy(tar, member, draft.joinpath(str(depth), *names))
                    count = counts.setdefault(("/".join(prefix), depth), {"files": 0, "bytes": 0})
                    count["files"] += 1
                    count["bytes"] += member.size
    except Unwritable as error:
        raise UserError(f"{error}; nothing was changed") from error
    except DAMAGED as error:
        raise UserError(f"{archive} is damaged or no archive ({error}); delete it and fetch again") from error
    best = {part: max(d for p, d in counts if p == part) for part, _ in counts}
    return {part: (depth, counts[part, depth]) for part, depth in best.items()}, seen


class Unwritable(Exception):
    """The disk refused; OSError would be taken for a damaged archive."""


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    handle = tar.extractfile(member)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.size > 1 << 26:
            room(path.parent, member.size, member.name)
        out = path.open("wb")
    except OSError as error:
        raise Unwritable(f"{path} cannot be written ({error.strerror})") from error
    with out:
        while block := handle.read(1 << 20):
            try:
                out.write(block)
            except OSError as error:
                raise Unwritable(f"{path} cannot be written ({error.strerror})") from error


def _place(name: str) -> tuple[int, tuple[str, ...]]:
    """How many lra_release folders a member lies in, and its path below them."""
    names = [n for n in PurePosixPath(name).parts if n not in (".", "/")]
    if ".." in names:
        return 0, ()
    depth = 0
    while names[depth : depth + 1] == [FOLDER]:
        depth += 1
    return depth, tuple(names[depth:])


def _replace(target: Path, new: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    """What was noted of an earlier fetch; nothing where that cannot be read or is something else."""
    try:
        notes = files.parsed(path)
    except (OSError, ValueError):
        notes = {}
    notes = notes if isinstance(notes, dict) else {}
    archive, unpacked = notes.get("archive"), notes.get("parts")
    return {
        "archive": archive if store.fits(archive, {"url": str, "bytes": int}) else None,
        "parts": unpacked if store.fits(unpacked, {"*": {"files": int, "bytes": int}}) else {},
    }


def _write(path: Path, notes: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    stamp = {"written_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    draft.write_text(json.dumps(stamp | notes, indent=1, sort_keys=True))
    draft.rename(path)
