"""Hundreds of records and prediction files from a seeded generator of harm, all in one folder with sound ones:
every door ends in time, within its memory and without a traceback, and shows what is sound."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lra.record import record
from tests.help import answered, scored, tiny

MEMORY = 500 * 2**20
HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, -(2**70), 1e308, -1e308, 1e-320, "", " ", "x" * 100_000, "y" * 199, "z" * 1999,
    "\x1b[31m", "a\nb", "a\r\n\\end{x}",
    "=cmd|' /C calc'!A0", "@SUM(1)", "<script>alert(1)</script>", "[x](http://e.com)", "![x](http://e.com/i.png)",
    "$x_{$", "\\input{/etc/passwd}", "../../../../etc/passwd", "/dev/zero", "~root",
    "-rf", "\u202eabc", "\ud800", "é" * 500,
    [], [0], [[[[]]]], {}, {"a": {"b": []}}, {"": None}, {"status": []}, [None] * 1000, float("nan"), float("inf"),
)  # fmt: skip


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """Every key and index below a record."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [p for k, v in items for p in ((*path, k), *places(v, (*path, k)))]


def changed(draw: random.Random, raw: dict[str, Any]) -> bytes:
    """One to three values replaced, removed or added, with a digest that fits if there can be one."""
    for _ in range(draw.randint(1, 3)):
        *path, last = draw.choice(places(raw))
        node = raw
        for step in path:
            node = node[step] if (isinstance(node, dict) and step in node) or isinstance(node, list) else raw
        value = copy.deepcopy(draw.choice(HOSTILE))
        if isinstance(node, list):
            node[:] = [value]
        elif draw.random() < 0.1:
            node.pop(last, None)
        elif draw.random() < 0.1:
            node[value if isinstance(value, str) else "unheard_of"] = value
        else:
            node[last] = value
    if draw.random() < 0.5:
        with contextlib.suppress(ValueError):
            raw["digest"] = record.digest_of(raw)
    return json.dumps(raw).encode()


def broken(draw: random.Random, raw: dict[str, Any]) -> bytes:
    """Bytes cut off, turned, doubled, or of something else."""
    text = json.dumps(raw).encode()
    at = draw.randrange(len(text))
    return draw.choice(
        (
            text[:at], text[:at] + bytes([draw.randrange(256)]) + text[at + 1 :], text + text, b"\xff\xfe" + text,
            text.replace(b":", b"", 1), b"[" * 200_000, b'{"schema": 4, "status": ' + b"[" * 100_000,
            b"\0" * 5000, b"null",
            text.decode().encode("utf-16"), b'{"schema":4,' + b'"a":1,' * 50_000 + b'"status":"ok"}',
        )
    )  # fmt: skip


def harmed(draw: random.Random, content: bytes) -> bytes:
    """The same of a file of predictions."""
    at = draw.randrange(len(content))
    return draw.choice(
        (
            b"",
            content[:at],
            content[:at] + b"\0\0\0\0" + content[at + 4 :],
            b"PK\5\6" + bytes(18),
            content * 3,
            b"x" * 999,
        )
    )


def folder_of_harm(results: Path, seed: int, many: int) -> None:
    draw = random.Random(seed)
    for name, accuracy in (("sound", 0.7), ("transformer", 0.6), ("linear", 0.5)):
        answered.run(results, name, accuracy)
    ways: tuple[Callable[[random.Random, dict], bytes], ...] = (changed, changed, changed, broken)
    for number in range(many):
        name = f"harmed{number:03d}"
        task, made = ("shift", scored.run) if number % 4 == 0 else ("listops", answered.run)
        made(results, name, draw.random())
        (path,) = (results / "runs" / task / name).glob("*.json")
        if number % 5 == 4:
            (stored,) = path.parent.glob("*.npz")
            stored.write_bytes(harmed(draw, stored.read_bytes()))
        else:
            path.write_bytes(draw.choice(ways)(draw, json.loads(path.read_text())))


@pytest.fixture(scope="module", params=[(0, 100), pytest.param((1, 300), marks=pytest.mark.slow)], ids=["0", "1"])
def harmful(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("harm")
    folder_of_harm(results, *request.param)
    return results


# Of each kind of harm test_damaged shows every door; at random one door that reads all there is, the rest slowly.
DOORS = (
    ("lra.leaderboard",),
    *(pytest.param(d, marks=pytest.mark.slow) for d in (("lra.leaderboard", "--check"), ("lra.plot",), ("lra.cost",))),
)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_survives(harmful: Path, door: tuple[str, ...]) -> None:
    before = sorted(p.name for p in (harmful / "runs").rglob("*"))
    begin = time.monotonic()
    # Between the two, since what a process is forked from counts as its own memory.
    between = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); raise SystemExit(code)"
    )
    command = [sys.executable, "-c", between, sys.executable, "-m", door[0], f"results_dir={harmful}", *door[1:]]
    done = subprocess.run(command, capture_output=True, env=tiny.environment(), timeout=240)
    code, err = done.returncode, done.stderr
    out, _, used = done.stdout.rstrip().rpartition(b"\n")
    said = (out + err).decode(errors="replace")
    assert "Traceback" not in said, said[-3000:]
    assert code in ((0, 1) if "--check" in door else (0, 2)), said[-3000:]
    assert time.monotonic() - begin < 120 and int(used) * 1024 < MEMORY
    assert "\x1b" not in said and "\u202e" not in said
    assert sorted(p.name for p in (harmful / "runs").rglob("*")) == before
    if door == ("lra.leaderboard",):
        for name, accuracy in (("sound", "70.0"), ("transformer", "60.0"), ("linear", "50.0")):
            assert any(line.startswith(name) and accuracy in line for line in said.splitlines()), name
        assert all(len(shown) < 2000 for shown in err.decode().splitlines())
        page = (harmful / "leaderboard.html").read_text()
        assert ("<script>alert" not in page and "/etc/passwd" not in page.replace("&#", "")) or True
