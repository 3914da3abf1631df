"""One large file over HTTP: an interruption, of whatever kind, costs no more than its last seconds."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from lra.errors import UserError
from lra.tasks import files

BLOCK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 8  # in a row that bring nothing
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass
class Version:
    """What a server says of the file it serves; parts of two versions are never joined."""

    url: str
    bytes: int | None = None
    etag: str | None = None
    modified: str | None = None

    @property
    def validator(self) -> str | None:
        """For If-Range; a weak ETag must not be used there (RFC 9110, section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Broken(Exception):
    """The connection failed in a way that a new attempt may mend."""


def download(url: str, target: Path, sha256: str | None = None, wait: float = 1.0) -> dict[str, Any]:
    """Bring `url` to `target` and return {url, bytes, etag, modified, sha256}.

    What has come lies in TARGET.part, with TARGET.part.json saying of which version it is, and a
    later call goes on from there. `target` appears by a rename, once it has its full size and, if
    `sha256` is given, that digest. `wait`, in seconds, doubles after each attempt that brought
    nothing. Raises UserError for what no attempt can mend, a full disk among it.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        version = _complete(url, part, wait)
        facts = asdict(version) | {"bytes": part.stat().st_size, "sha256": digest(part)}
        if sha256 is not None and facts["sha256"] != sha256.lower():
            part.unlink()
            _notes(part).unlink(missing_ok=True)
            raise UserError(f"{url}: its SHA-256 is {facts['sha256']}, not {sha256}; what came has been deleted")
        part.rename(target)
    except OSError as error:
        why = f"{part} cannot be written ({error.strerror or error}); what has come is kept"
        raise UserError(f"{why}; another place is chosen with --to or LRA_DATA") from error
    _notes(part).unlink(missing_ok=True)
    return facts


def digest(path: Path) -> str:
    """SHA-256 of a file, with a bar on a terminal."""
    with path.open("rb") as handle, bar(path.stat().st_size, f"checking {path.name}") as seen:
        whole = hashlib.sha256()
        while block := handle.read(BLOCK):
            whole.update(block)
            seen.update(len(block))
    return whole.hexdigest()


def bar(total: int | None, what: str, done: int = 0) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=what, unit="B", unit_scale=True, disable=None, leave=False)


def _complete(url: str, part: Path, wait: float) -> Version:
    """Attempt after attempt until `part` is whole."""
    failures = 0
    while True:
        before = _size(part)
        try:
            return _attempt(url, part)
        except Broken as error:
            failures = failures + 1 if _size(part) <= before else 0
            if failures >= ATTEMPTS:
                kept = f"; {_size(part)} bytes are kept, the same command goes on from there" if _size(part) else ""
                raise UserError(f"{url}: {error}, {ATTEMPTS} times in a row{kept}") from error
            time.sleep(min(wait * 2**failures, 60))


def _attempt(url: str, part: Path) -> Version:
    """Ask for what is missing and append what comes. Raises Broken or UserError."""
    have, known = _size(part), _known(part, url)
    if have and (known is None or (known.validator is None and known.bytes is None)):
        part.unlink()  # nothing tells whether the file is still the same
        have = 0
    if known is not None and have and have == known.bytes:
        return known
    # The bytes as they are stored: a coding made for the transfer has no ranges.
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url!r} is not a URL of http or https")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "lra", "Accept-Encoding": "identity"})
    except ValueError as error:
        raise UserError(f"{url!r} is not a URL ({error})") from error
    if have:
        request.add_header("Range", f"bytes={have}-")
        if known.validator:
            request.add_header("If-Range", known.validator)
    with _opened(request, part) as response:
        headers = response.headers
        if response.status == 206:
            start, total = _content_range(headers)
            if start != have or total != known.bytes or (known.etag and headers.get("ETag", known.etag) != known.etag):
                part.unlink()
                raise Broken("the file changed on the server")
            version = known
        else:
            have = 0
            length = headers.get("Content-Length") or ""
            version = Version(
                url, int(length) if length.isdecimal() else None, headers.get("ETag"), headers.get("Last-Modified")
            )
            _notes(part).write_text(json.dumps(asdict(version)))
            part.write_bytes(b"")
        room(part.parent, (version.bytes or 0) - have, "the download")
        _append(response, part, version, have)
    if version.bytes is not None and _size(part) != version.bytes:
        raise Broken(f"the connection ended after {_size(part)} of {version.bytes} bytes")
    return version


def _opened(request: urllib.request.Request, part: Path) -> Any:
    url = request.full_url
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise Broken("the server has fewer bytes than were here") from error
        if error.code in TRANSIENT:
            raise Broken(f"the server answered {error.code} {error.reason}") from error
        raise UserError(f"{url}: the server answered {error.code} {error.reason}") from error
    except http.client.InvalidURL as error:
        raise UserError(f"{url!r} is not a URL ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
            raise UserError(
                f"{url}: the server's certificate is not valid ({getattr(error, 'reason', error)})"
            ) from error
        raise Broken(f"no connection ({getattr(error, 'reason', None) or error})") from error


def _append(response: Any, part: Path, version: Version, have: int) -> None:
    with part.open("ab") as out, bar(version.bytes, f"fetching {part.stem}", have) as seen:
        while True:
            try:
                block = response.read1(BLOCK)  # what has come, not a full block: it is to be kept
            except (OSError, http.client.HTTPException) as error:
                raise Broken(f"the connection broke ({error})") from error
            if not block:
                return
            out.write(block)
            seen.update(len(block))


def _content_range(headers: Message) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if not match:
        raise Broken("the server's Content-Range cannot be read")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _known(part: Path, url: str) -> Version | None:
    """Of which version of which file `part` is a beginning; None where nothing tells."""
    try:
        version = Version(**files.parsed(_notes(part)))
    except (OSError, ValueError, TypeError):
        return None
    texts = (version.etag, version.modified)
    whole = type(version.bytes) in (int, type(None)) and all(type(text) in (str, type(None)) for text in texts)
    return version if version.url == url and whole else None


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def room(folder: Path, needed: int, what: str, free: Callable[[Path], Any] = shutil.disk_usage) -> None:
    """Raise UserError unless `needed` bytes are free in `folder`."""
    left = free(folder).free
    if needed > left:
        raise UserError(f"{what} needs {needed / 1e9:.2f} GB and {folder} has {left / 1e9:.2f} GB free")
