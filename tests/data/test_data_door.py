"""python -m lra.data: what it lists, prepares and finds wrong; the archive, through a server that fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import signal
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lra.data import __main__, download, places, release, traps
from lra.errors import UserError, guarded
from tests.help.tiny import environment, interruptible, lra

ROOT = Path(__file__).resolve().parent.parent.parent
INNER, OUTER = "lra_release/lra_release", "lra_release"
FILES = {
    f"{OUTER}/listops-1000/basic_train.tsv": b"Source\tTarget\r\nouter\t1\r\n",
    f"{OUTER}/pathfinder128/curv_baseline/metadata/0.npy": b"outer",
    f"{INNER}/listops-1000/basic_train.tsv": b"Source\tTarget\r\n( ( ( [MAX 2 ) 9 ) ] )\t9\r\n",
    f"{INNER}/tsv_data/new_aan_pairs.train.tsv": b"1.0\ta\tb\tb'x'\tb'y'\n" * 4000,
    f"{INNER}/pathfinder32/curv_baseline/imgs/0/sample_172.png": b"",
    f"{INNER}/pathfinder32/curv_contour_length_14/metadata/0.npy": b"imgs/0 sample_0.png 0 1\n",
    f"{INNER}/pathfinder128/curv_baseline/metadata/0.npy": b"inner",
}


def tar(files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            archive.addfile(member, io.BytesIO(content))
    # No compression, so that the archive is large enough to be cut.
    return gzip.compress(buffer.getvalue(), 0, mtime=0)


class Server:
    """One file over HTTP, with the faults of the real world. `log` holds what was asked for."""

    def __init__(self, content: bytes) -> None:
        self.content, self.etag = content, '"one"'
        self.ranges, self.cut_after, self.refusals, self.status = True, None, 0, 503
        self.pause = 0.0
        self.log: list[dict[str, str | None]] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = {name: request.headers.get(name) for name in ("Range", "If-Range")}
        self.log.append(asked)
        if self.refusals:
            self.refusals -= 1
            request.send_error(self.status)
            return
        start = 0
        if self.ranges and asked["Range"] and asked["If-Range"] in (None, self.etag):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked["Range"])[1])
            if start >= len(self.content):
                request.send_error(416)
                return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", self.etag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        for i in range(0, len(body), 4096):
            if self.cut_after is not None and i >= self.cut_after:
                request.close_connection = True
                return
            request.wfile.write(body[i : i + 4096])
            time.sleep(self.pause)


@contextmanager
def serving(server: Server) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):
                server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/lra_release.gz"
        http.shutdown()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def server() -> Server:
    return Server(tar(FILES))


def test_a_download_is_whole(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    with serving(server) as url:
        facts = download.download(url, target)
    assert target.read_bytes() == server.content
    assert facts["sha256"] == hashlib.sha256(server.content).hexdigest() and facts["bytes"] == len(server.content)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_cut_connections_are_taken_up_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after = 8192
    with serving(server) as url:
        download.download(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content
    starts = [int(re.search(r"\d+", a["Range"])[0]) if a["Range"] else 0 for a in server.log]
    assert len(starts) > 5 and starts == sorted(set(starts)) and all(a["If-Range"] == '"one"' for a in server.log[1:])


def test_refusals_are_waited_out(server: Server, tmp_path: Path) -> None:
    server.refusals = 5
    with serving(server) as url:
        download.download(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


def test_giving_up_keeps_what_came_and_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    server.cut_after = 8192
    with serving(server) as url:
        fine = server.answer

        def dying(request: BaseHTTPRequestHandler) -> None:
            if server.log:
                server.refusals = 100
            fine(request)

        server.answer = dying
        with pytest.raises(UserError, match=r"answered 503 .* 8 times in a row; \d+ bytes are kept, the same command"):
            download.download(url, target)
        assert not target.exists() and len(server.log) == 1 + 8
        have = (tmp_path / "file.part").stat().st_size
        server.answer, server.refusals, server.cut_after = fine, 0, None
        server.log.clear()
        download.download(url, target)
    assert server.log == [{"Range": f"bytes={have}-", "If-Range": '"one"'}]
    assert target.read_bytes() == server.content


def test_two_versions_are_never_joined(server: Server, tmp_path: Path) -> None:
    part, old = tmp_path / "file.part", b"old" * 1000
    for etag in ('"zero"', None):
        with serving(server) as url:
            part.write_bytes(old)
            notes = {"url": url, "bytes": len(server.content), "etag": etag, "modified": None}
            (tmp_path / "file.part.json").write_text(json.dumps(notes))
            if etag is None:
                part.write_bytes(server.content[:3000])  # no validator, but the size fits: the range is taken
            download.download(url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == server.content


def test_a_part_of_unknown_origin_is_not_trusted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"whatever")
    with serving(server) as url:
        download.download(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content and server.log[0]["Range"] is None


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, 8192
    with serving(server) as url:
        with pytest.raises(UserError, match="the connection ended after 8192 of"):
            download.download(url, tmp_path / "file")
        server.cut_after = None
        download.download(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


def test_what_no_attempt_can_mend_is_said_at_once(server: Server, tmp_path: Path, monkeypatch) -> None:
    server.refusals, server.status = 100, 404
    with serving(server) as url:
        with pytest.raises(UserError, match="the server answered 404"):
            download.download(url, tmp_path / "file")
        assert len(server.log) == 1
        server.refusals = 0
        with pytest.raises(UserError, match="SHA-256 is [0-9a-f]{64}, not 0000"):
            download.download(url, tmp_path / "file", sha256="0000")
        assert not list(tmp_path.iterdir())
        monkeypatch.setattr(download.room, "__defaults__", (lambda folder: type("Disk", (), {"free": 10}),))
        with pytest.raises(UserError, match="the download needs .* GB and .* has 0.00 GB free"):
            download.download(url, tmp_path / "file")
    with pytest.raises(UserError, match="is not a URL"):
        download.download("nowhere", tmp_path / "file")
    with pytest.raises(UserError, match="no connection .* 8 times in a row$"):
        download.download("http://127.0.0.1:9/x", tmp_path / "file")


def test_parts_by_task_or_folder() -> None:
    assert release.parts(None) == list(release.PARTS)
    assert release.parts("listops, pathx") == ["listops-1000", "pathfinder128"]
    assert release.parts("pathfinder32/curv_baseline,retrieval") == ["pathfinder32/curv_baseline", "tsv_data"]
    assert release.parts("pathfinder32/curv_baseline,pathfinder32") == ["pathfinder32"]
    for wrong in ("listop", "../x", "pathfinder32/../..", ","):
        with pytest.raises(UserError, match="--only"):
            release.parts(wrong)


def test_only_what_is_asked_for_is_unpacked_and_the_inner_folder_wins(server: Server, tmp_path: Path) -> None:
    with serving(server) as url:
        done = release.fetch(tmp_path, url, "listops,pathfinder128")
        root = done["folder"]
        assert done["new"] == ["listops-1000", "pathfinder128"] and not done["known"]
        assert sorted(p.name for p in root.iterdir()) == ["listops-1000", "pathfinder128"]
        assert b"[MAX" in (root / "listops-1000/basic_train.tsv").read_bytes()
        assert (root / "pathfinder128/curv_baseline/metadata/0.npy").read_bytes() == b"inner"
        # The rest comes from the archive that is here; what is here already is left alone.
        done = release.fetch(tmp_path, url, "listops,retrieval,pathfinder32/curv_contour_length_14", discard=True)
    assert len(server.log) == 1
    assert done["known"] == ["listops-1000"] and (root / "tsv_data/new_aan_pairs.train.tsv").stat().st_size == 72_000
    assert [p.name for p in (root / "pathfinder32").iterdir()] == ["curv_contour_length_14"]
    assert not (tmp_path / "lra_release.gz").exists() and not list(tmp_path.glob(".*draft"))
    notes = json.loads((tmp_path / "lra_release.json").read_text())
    assert notes["archive"]["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert notes["parts"]["tsv_data"] == {"files": 1, "bytes": 72_000}


def test_an_archive_at_hand_is_not_fetched(server: Server, tmp_path: Path) -> None:
    archive = tmp_path / "mine.tar.gz"
    archive.write_bytes(server.content)
    done = release.fetch(tmp_path / "to", str(archive), "listops")
    assert done["new"] == ["listops-1000"] and archive.exists()
    with pytest.raises(UserError, match="its SHA-256 is not 00"):
        release.fetch(tmp_path / "other", str(archive), "listops", sha256="00")


def test_an_archive_that_is_damaged_or_lacks_a_part_changes_nothing(server: Server, tmp_path: Path) -> None:
    archive = tmp_path / "a.gz"
    archive.write_bytes(server.content[: len(server.content) // 2])
    with pytest.raises(UserError, match=r"a\.gz is damaged or no archive"):
        release.fetch(tmp_path, str(archive), "retrieval")
    archive.write_bytes(server.content)
    with pytest.raises(
        UserError, match="holds no pathfinder64; it holds listops-1000, pathfinder128, pathfinder32, tsv"
    ):
        release.fetch(tmp_path, str(archive), "listops,pathfinder64")
    assert not (tmp_path / "lra_release").exists()


def test_members_that_leave_their_folder_are_not_written(tmp_path: Path) -> None:
    files = {
        f"{INNER}/tsv_data/../../../escaped": b"x",
        f"/{INNER}/tsv_data/absolute": b"y",
        f"{INNER}/tsv_data/link": b"",
        f"{INNER}/tsv_data/good": b"z",
    }

    def change(member: tarfile.TarInfo) -> None:
        if member.name.endswith("link"):
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        member.mode = 0o7777

    archive = tmp_path / "in" / "a.gz"
    archive.parent.mkdir()
    archive.write_bytes(tar(files, change))
    release.fetch(tmp_path / "in" / "to", str(archive), "retrieval")
    here = sorted(p.name for p in (tmp_path / "in").rglob("*") if p.is_file() and not p.name.startswith("."))
    assert here == ["a.gz", "absolute", "good", "lra_release.json"] and [p.name for p in tmp_path.iterdir()] == ["in"]
    assert not (tmp_path / "in/to/lra_release/tsv_data/good").stat().st_mode & 0o7000


def test_two_fetches_at_once(tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lra_release.lock"), pytest.raises(UserError, match="another process"):
        release.fetch(tmp_path, "http://127.0.0.1:9/", "listops")


def test_ctrl_c_keeps_what_came(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    server.pause = 0.05
    with serving(server) as url:
        words = [sys.executable, "-m", "lra.data", "fetch", "lra_release", "--url", url, "--only", "listops"]
        process = interruptible(words, environment(LRA_DATA=str(tmp_path), no_proxy="*"))
        part = tmp_path / "lra_release.gz.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in error, error
        assert "the same command goes on from there" in error
        server.pause = 0.0
        monkeypatch.setenv("LRA_DATA", str(tmp_path))
        assert run(monkeypatch, *words[3:]) == 0
    assert "listops-1000: unpacked" in capsys.readouterr().out and (tmp_path / "lra_release/listops-1000").is_dir()


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["lra.data", *words])
    with pytest.raises(SystemExit) as end:
        guarded(__main__.main)
    return end.value.code


@pytest.mark.parametrize("few", [pytest.param(False, marks=pytest.mark.slow), True])
def test_list_names_every_task_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, few: bool) -> None:
    if few:
        some = ["text", "image", "listops", "pathfinder", "retrieval", "retrieval_synth", "shift"]
        monkeypatch.setattr(places, "choices", lambda group, *more: some)
    monkeypatch.setenv("LRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("list went to the network"))
    assert run(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    for task in places.choices("task"):
        assert re.search(rf"^{task} +(here|missing) ", out, re.M), task
    assert re.search(r"^retrieval +missing .*CC BY", out, re.M) and re.search(r"^retrieval_synth +here ", out, re.M)
    assert "retrieval: fetch them with python -m lra.data fetch lra_release --only retrieval" in out
    assert not (tmp_path / "data").exists()


def test_prepare_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("LRA_DATA", str(tmp_path))
    tiny = ["task=listops", "task.max_len=24", "task.min_length=3", "task.sizes=[30,6,6]"]
    assert run(monkeypatch, "prepare", *tiny) == 0
    out = capsys.readouterr().out
    assert "30 train, 6 valid, 6 test" in out and str(tmp_path) in out and "fingerprint" in out
    assert run(monkeypatch, "verify") == 0
    assert "1 prepared" in capsys.readouterr().out
    (file,) = tmp_path.glob("listops-*/tokens.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert run(monkeypatch, "verify") == 1
    assert re.search(r"bad .*tokens.npy is not as it was written; delete .* to rebuild", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare"], "say which task, task=all or one of .*listops"),
        (["prepare", "task=listop"], "'listop' is not one of .* Did you mean listops"),
        (["prepare", "task=retrieval"], "holds no|does not exist; fetch them with"),
        (["prepare", "task=retrieval_synth", "task.facts=99"], "task.facts: 99 is not"),
        (["fetch", "lra"], "invalid choice: 'lra'"),
        (["fetch", "lra_release", "--only", "listop"], "--only: 'listop' is not one of .* Did you mean listops"),
        (["verify", "/nowhere"], "/nowhere holds none of listops-1000"),
        (["verify", "~nobody-here/x"], "verify: '~nobody-here/x': "),
        (["fetch", "lra_release", "--to", "~nobody-here"], "--to: '~nobody-here': "),
        (["fetch", "lra_release", "--sha256", "12"], "--sha256: '12' is not 64 hexadecimal digits"),
        (["prepare", "task=text", "task.path=~nobody-here"], "task.path: '~nobody-here': "),
        (["prepare", "task=text", f"task.path={'x' * 5000}"], "task=text: .*File name too long"),
        (["bake"], "invalid choice: 'bake'"),
        ([], "arguments are required: verb"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LRA_DATA", str(tmp_path))
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_an_archive_that_is_there_is_held_against_what_is_asked(server: Server, tmp_path: Path) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    other = "http://127.0.0.1:9/another.gz"
    with serving(server) as url:
        release.fetch(tmp_path, url, "listops", sha256=digest)
        archive = tmp_path / "lra_release.gz"
        for part in ("listops", "retrieval"):  # there already, and still to be unpacked
            with pytest.raises(UserError, match=f"--url: .* here already, .*from .*{url}.*leave --url out"):
                release.fetch(tmp_path, other, part)
            with pytest.raises(
                UserError, match="--sha256: .*" + (digest if part == "listops" else "SHA-256 is not 00")
            ):
                release.fetch(tmp_path, url, part, sha256="00" * 32)
            assert release.fetch(tmp_path, url, part, sha256=digest.upper())["folder"].is_dir()
        (tmp_path / "lra_release.json").unlink()
        with pytest.raises(
            UserError, match="--url: .*lra_release.gz is here already, from where, nothing says; delete"
        ):
            release.fetch(tmp_path, url, "pathfinder128")
        archive.write_bytes(b"something else")
        with pytest.raises(UserError, match="--sha256: .*lra_release.gz: its SHA-256 is not .*; delete it to fetch it"):
            release.fetch(tmp_path, None, "pathfinder128", sha256=digest)
    assert len(server.log) == 1


@pytest.mark.parametrize(
    "notes", ["[]", "[" * 100_000, '{"parts": []}', '{"parts": {"listops-1000": 3}, "archive": 7}']
)
def test_notes_of_another_type_are_no_notes(server: Server, tmp_path: Path, notes: str) -> None:
    (tmp_path / "lra_release.json").write_text(notes)
    (tmp_path / "file.part").write_bytes(b"x")
    (tmp_path / "file.part.json").write_text(notes)
    archive = tmp_path / "mine.gz"
    archive.write_bytes(server.content)
    assert release.fetch(tmp_path, str(archive), "listops")["new"] == ["listops-1000"]
    with serving(server) as url:
        download.download(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "is not a URL of http or https"),
        ("file:///etc/passwd", "is not a URL of http or https"),
        ("http://host:port/x", "is not a URL"),
        ("http://a b/x", "is not a URL"),
        ("nowhere.gz", "--url: 'nowhere.gz' is neither an address .* nor a file"),
        ("~nobody-here/x", "--url: .* is neither an address"),
    ],
)
def test_an_address_that_is_none_is_said_at_once(tmp_path: Path, url: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=message):
        release.fetch(tmp_path, url, "listops")
    assert time.monotonic() - started < 5


def test_a_place_that_cannot_be_written_says_what_chooses_it(tmp_path: Path, monkeypatch, capsys) -> None:
    """A home that is no folder: root may write everywhere else."""
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("LRA_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for words in (
        ["prepare", "task=listops", "task.max_len=24", "task.min_length=3", "task.sizes=[30,6,6]"],
        ["fetch", "lra_release", "--only", "listops"],
    ):
        assert run(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert "LRA_DATA" in error and error.count("\n") == 1, error


LISTOPS_ROWS = "Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t9\n( ( ( [MIN 2 ) 9 ) ] )\t2\n"


@pytest.mark.parametrize("name", ["plain", "with space", "ü", "a,b", "a=b", "it's", "[x]"])
def test_a_copy_of_the_release_is_prepared_whatever_its_folder_is_called(
    tmp_path: Path, monkeypatch, capsys, name: str
) -> None:
    monkeypatch.setenv("LRA_DATA", str(tmp_path / "data"))
    (tmp_path / name).mkdir()
    for file in traps.LISTOPS:
        (tmp_path / name / file).write_text(LISTOPS_ROWS)
    assert run(monkeypatch, "prepare", "task=listops", f"task.path={tmp_path / name}") == 0
    out = capsys.readouterr().out
    assert "2 train, 2 valid, 2 test" in out and f"where: {tmp_path / name} (" in out


def test_a_local_folder_of_the_hubs_name_is_not_the_source(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "stanfordnlp" / "imdb").mkdir(parents=True)
    table = pa.table({"text": [f"a review {i}" for i in range(40)], "label": [0, 1] * 20})
    for name in ("train", "test"):
        pq.write_table(table, tmp_path / "stanfordnlp" / "imdb" / f"{name}.parquet")
    there = {"LRA_DATA": str(tmp_path / "d"), "HF_HOME": str(tmp_path / "h"), "HF_HUB_OFFLINE": "1"}
    done = lra("prepare", "task=text", module="lra.data", cwd=tmp_path, **there)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    assert "stanfordnlp/imdb is not in the cache" in done.stderr


def listops_release(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in traps.LISTOPS:
        (folder / name).write_text("Source\tTarget\r\n( ( ( [MAX 2 ) 9 ) ] )\t9\r\n")
    return folder


def findings(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"ok": [], "note": [], "bad": []}
    for each in traps.check(path):
        found[each.level].append(f"{each.where}: {each.text}")
    return found


def test_verify_tables(tmp_path: Path) -> None:
    folder = listops_release(tmp_path / "lra_release" / "listops-1000")
    found = findings(tmp_path)
    assert not found["bad"] and len(found["note"]) == 3 and "1 rows; the release has 96,000" in found["note"][0]
    (folder / "basic_train.tsv").write_text("Source\tTarget\r\n( ( ( [MAX 2 ) 9 ) ] )\t9\r\n( ( ( [MA")
    (folder / "basic_val.tsv").write_text("source target\n")
    (folder / "basic_test.tsv").unlink()
    bad = findings(tmp_path)["bad"]
    assert ["line 3 is cut short" in bad[0], "line 1 is not the header" in bad[1], "cannot be read" in bad[2]] == [
        True
    ] * 3
    pairs = tmp_path / "tsv_data"
    pairs.mkdir()
    for name in traps.PAIRS:
        (pairs / name).write_text("1.0\ta\tb\tx\ty\n0.0\ta\tb\tx\ty\n")
    (pairs / "new_aan_pairs.eval.tsv").write_text("label\ta\tb\tx\ty\n")
    assert [b for b in findings(pairs)["bad"] if "eval.tsv: line 1 is cut short or no row" in b]


def pathfinder_release(folder: Path, count: int = 4) -> Path:
    (folder / "imgs/0").mkdir(parents=True)
    (folder / "metadata").mkdir()
    lines = []
    for i in range(count):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / f"imgs/0/sample_{i}.png")
        lines.append(f"imgs/0 sample_{i}.png {i} {i % 2} 1.0 6 2 2 0.5 1 1\n")
    (folder / "metadata/0.npy").write_text("".join(lines))
    return folder


def test_verify_names_the_empty_image_and_the_doubled_folder(tmp_path: Path) -> None:
    inner = pathfinder_release(tmp_path / "lra_release/lra_release/pathfinder32/curv_baseline", 200)
    (inner / "imgs/0/sample_172.png").write_bytes(b"")
    found = findings(tmp_path)
    assert not found["bad"] and any("sample_172.png: is empty, in every copy" in n for n in found["note"])
    (inner / "imgs/0/sample_3.png").write_bytes(b"")
    (inner / "imgs/0/sample_4.png").unlink()
    outer = pathfinder_release(tmp_path / "lra_release/pathfinder32/curv_baseline")
    found = findings(tmp_path / "lra_release")
    assert any("sample_3.png: is empty;" in b for b in found["bad"])
    assert any("1 of 200 images listed are not there: 0/sample_4.png" in b for b in found["bad"])
    assert any(n.startswith(f"{outer.parent}: stands beside {inner.parent}") for n in found["note"])


@pytest.mark.shared
def test_verify_tells_labels_that_cannot_be_learnt(shared_data: Path, tmp_path: Path) -> None:
    true = shared_data / "lra_release" / "pathfinder128"
    wrong = tmp_path / "pathfinder128" / "curv_contour_length_14"
    wrong.mkdir(parents=True)
    (wrong / "imgs").symlink_to(true / "curv_contour_length_14" / "imgs")
    (wrong / "metadata").mkdir()
    lines = (true / "curv_contour_length_14/metadata/0.npy").read_text().splitlines()
    labels = np.random.default_rng(0).permutation([line.split()[3] for line in lines])
    text = "\n".join(" ".join([*line.split()[:3], y, *line.split()[4:]]) for line, y in zip(lines, labels, strict=True))
    (wrong / "metadata/0.npy").write_text(text)
    assert "cannot be learnt" in findings(tmp_path / "pathfinder128")["bad"][0]


@pytest.mark.shared
def test_verify_the_sample_release(shared_data: Path) -> None:
    found = findings(shared_data / "lra_release")
    assert not found["bad"] and any("2,000 rows; the release has 96,000" in n for n in found["note"])
    assert ["pathfinder128" in text and "labels follow from the images" in text for text in found["ok"]] == [True]


def test_a_part_that_is_gone_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fewer(*_: object, **__: object) -> None:
        raise urllib.error.HTTPError("http://x/a", 416, "Range Not Satisfiable", Message(), None)

    monkeypatch.setattr(download.urllib.request, "urlopen", fewer)
    with pytest.raises(download.Broken, match="fewer bytes than were here"):
        download._opened(urllib.request.Request("http://x/a"), tmp_path / "none.part")


def test_room_is_asked_for_where_a_member_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(release, "room", lambda folder, size, what: asked.append((size, what)))
    for size in (1 << 10, (1 << 26) + 1):
        member = tarfile.TarInfo("a")
        member.size = size
        release._copy(SimpleNamespace(extractfile=lambda _: io.BytesIO(b"x")), member, tmp_path / "a")
    assert asked == [((1 << 26) + 1, "a")]
