"""Hostile copies of every layout of data, generated from a seed: each ends in exit code 2 and one short line."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from lra.data import __main__
from lra.errors import guarded
from lra.tasks.base import Task
from lra.tasks.image import Image
from lra.tasks.listops import ListOps
from lra.tasks.pathfinder import Pathfinder
from lra.tasks.retrieval import Retrieval
from lra.tasks.text import Text


def listops(folder: Path) -> None:
    for name in ("train", "val", "test"):
        rows = [f"( ( ( [MAX {i % 10} ) 3 ) ] )\t{max(i % 10, 3)}" for i in range(30)]
        (folder / f"basic_{name}.tsv").write_text("\r\n".join(["Source\tTarget", *rows, ""]))


def pairs(folder: Path) -> None:
    for name in ("train", "eval", "test"):
        rows = [f"{i % 2}.0\ta{i}\tb{i}\tb'text {name} {i}'\tb'other {i}'\n" for i in range(30)]
        (folder / f"new_aan_pairs.{name}.tsv").write_text("".join(rows))


def release(folder: Path) -> None:
    subset = folder / "pathfinder32" / "curv_baseline"
    (subset / "imgs" / "0").mkdir(parents=True)
    (subset / "metadata").mkdir()
    lines = []
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32), np.uint8)
        Pillow.fromarray(pixels).save(subset / "imgs" / "0" / f"sample_{i}.png")
        lines.append(f"imgs/0 sample_{i}.png {i} {i % 2} 1.0 6 2 2 0.5 1 1\n")
    (subset / "metadata" / "0.npy").write_text("".join(lines))


def tables(folder: Path, column: str, cell: Callable[[int], object]) -> None:
    for name in ("train", "test"):
        table = pa.table({column: [cell(i) for i in range(40)], "label": [i % 2 for i in range(40)]})
        pq.write_table(table, folder / f"{name}-00000-of-00001.parquet")


def picture(seed: int) -> dict[str, bytes | None]:
    handle = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)).save(handle, "PNG")
    return {"bytes": handle.getvalue(), "path": None}


def unpacked(folder: Path) -> None:
    for split in ("train", "test"):
        for sentiment in ("neg", "pos"):
            (folder / split / sentiment).mkdir(parents=True)
            for i in range(20):
                (folder / split / sentiment / f"{i}_1.txt").write_text(f"{split} {sentiment} {i}")


def batches(folder: Path) -> None:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = np.random.default_rng(len(name)).integers(0, 256, (10, 3072), np.uint8)
        batch = {b"labels": list(range(10)), b"data": data, b"filenames": [b"a.png"] * 10}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


LAYOUTS: dict[str, tuple[Callable[[Path], None], Callable[..., Task], str]] = {
    "listops": (listops, ListOps, "basic_val.tsv"),
    "retrieval": (pairs, Retrieval, "new_aan_pairs.test.tsv"),
    "metadata": (release, Pathfinder, "pathfinder32/curv_baseline/metadata/0.npy"),
    "png": (release, Pathfinder, "pathfinder32/curv_baseline/imgs/0/sample_7.png"),
    "reviews": (lambda f: tables(f, "text", "review {}".format), Text, "train-00000-of-00001.parquet"),
    "pictures": (lambda f: tables(f, "img", picture), Image, "test-00000-of-00001.parquet"),
    "aclImdb": (unpacked, Text, "train/pos/7_1.txt"),
    "batches": (batches, Image, "data_batch_3"),
}


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def rng(file: Path) -> np.random.Generator:
    return np.random.default_rng([20240501, file.stat().st_size])


def cut(file: Path) -> None:
    """Somewhere; of a text three bytes into a line, since what ends with a line is a smaller whole."""
    content = file.read_bytes()
    end = int(len(content) * rng(file).uniform(0.2, 0.8))
    line = -1 if b"\0" in content else content.rfind(b"\n", 0, end)
    os.truncate(file, end if line < 0 else line + 4)


def changed(file: Path) -> None:
    """Some bytes in the part that says what the rest is: a file's beginning, or a parquet file's end."""
    content = bytearray(file.read_bytes())
    for at in rng(file).integers(1, 30, 12):
        content[-at if file.suffix == ".parquet" else at] = 0xC3
    file.write_bytes(content)


def other_table(columns: dict[str, object]) -> Callable[[Path], None]:
    return lambda file: pq.write_table(pa.table(columns), file)


SPOIL: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "directory": directory,
    "pipe": pipe,
    "loop": loop,
    "empty": lambda file: file.write_bytes(b""),
    "cut": cut,
    "changed": changed,
    "random": lambda file: file.write_bytes(rng(file).bytes(5000)),
    "zeros": lambda file: file.write_bytes(bytes(3 << 20)),
    "one line": lambda file: file.write_bytes(b"( 1" * (1 << 20)),
    "brackets": lambda file: file.write_bytes(b"[" * (1 << 20)),
    "mark": lambda file: file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes()),
    "utf-16": lambda file: file.write_bytes(file.read_bytes().decode("latin-1").encode("utf-16")),
}
TABLES = {
    "no columns": {},
    "other columns": {"a": [1], "b": [2]},
    "null": {"text": [None, "a"], "img": [None, None], "label": [0, 1]},
    "floats": {"text": ["a"] * 40, "img": [picture(0)] * 40, "label": [0.5] * 40},
    "huge labels": {"text": ["a"] * 40, "img": [picture(0)] * 40, "label": pa.array([2**63] * 40, pa.uint64())},
    "numbers": {"text": [1] * 40, "img": [{"bytes": 1, "path": None}] * 40, "label": [0, 1] * 20},
    "lists": {"text": [["a"]] * 40, "img": [[b"x"]] * 40, "label": [0, 1] * 20},
    "no image": {"text": [""] * 40, "img": [{"bytes": b"\x89PNG\r\n\x1a\n", "path": None}] * 40, "label": [0, 1] * 20},
    "one class": {"text": ["a"] * 40, "img": [picture(0)] * 40, "label": [1] * 40},
}
STILL_REVIEWS = ("gone", "cut", "changed", "random", "mark", "utf-16", "brackets")
HARMLESS = {
    ("png", "empty"),  # skipped, and noted: the release itself has one
    *(("aclImdb", how) for how in STILL_REVIEWS),
    *(("reviews", "mark"), ("pictures", "mark"), ("metadata", "changed")),
    ("pictures", "one class"),  # of test
}
CASES = [(name, how) for name in LAYOUTS for how in SPOIL if (name, how) not in HARMLESS]
CASES += [(name, how) for name in ("reviews", "pictures") for how in TABLES if (name, how) not in HARMLESS]


def prepared(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, data: Path) -> int:
    """Exit code of `python -m lra.data prepare` in this process, but for Hydra."""
    more = {"contour_length": 6, "resolution": 32} if LAYOUTS[name][1] is Pathfinder else {}
    task = LAYOUTS[name][1](path=str(folder), data_dir=str(data), **more)
    monkeypatch.setattr(__main__, "tasks", lambda *_: [(name, task)])
    monkeypatch.setattr(sys, "argv", ["lra.data", "prepare", f"task={name}"])
    with pytest.raises(SystemExit) as end:
        guarded(__main__.main)
    return end.value.code


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_unspoilt_copy_is_prepared(tmp_path: Path, monkeypatch, capsys, name: str) -> None:
    LAYOUTS[name][0](tmp_path)
    assert prepared(monkeypatch, name, tmp_path, tmp_path / "stores") == 0
    assert "fingerprint" in capsys.readouterr().out


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_hostile_copy_is_one_line(tmp_path: Path, monkeypatch, capsys, name: str) -> None:
    build, _, file = LAYOUTS[name]
    (tmp_path / "good").mkdir()
    build(tmp_path / "good")
    for how in (how for layout, how in CASES if layout == name):
        folder = tmp_path / how
        shutil.copytree(tmp_path / "good", folder)
        (SPOIL[how] if how in SPOIL else other_table(TABLES[how]))(folder / file)
        started = time.monotonic()
        code = prepared(monkeypatch, name, folder, tmp_path / "stores")
        out, error = capsys.readouterr()
        assert (code, out, error.count("\n")) == (2, "", 1), (how, code, out, error)
        assert error.startswith("lra: ") and len(error) < 600 and "Traceback" not in error, (how, error)
        assert time.monotonic() - started < 30, how


def test_there_are_many() -> None:
    assert len(CASES) > 90
