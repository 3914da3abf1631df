"""A store is whole or absent."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lra.tasks import store
from lra.tasks.base import DataError
from tests.help.tiny import ROOT, environment
from tests.help.warm import Asked


def build(folder: Path) -> dict:
    np.save(folder / "x.npy", np.arange(100))
    return {"note": 1}


def test_built_once(tmp_path: Path) -> None:
    calls = []

    def counted(folder: Path) -> dict:
        calls.append(1)
        return build(folder)

    for _ in range(2):
        folder = store.ensure(tmp_path / "a" / "s", counted)
    assert len(calls) == 1 and store.array(folder, "x")[99] == 99 and store.manifest(folder)["facts"] == {"note": 1}


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        build(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.ensure(tmp_path / "s", broken)
    assert not (tmp_path / "s").exists()
    assert store.ensure(tmp_path / "s", build).exists()


@pytest.mark.parametrize("damage", ["short", "gone", "manifest"])
def test_damage_is_one_line(tmp_path: Path, damage: str) -> None:
    folder = store.ensure(tmp_path / "s", build)
    if damage == "short":
        os.truncate(folder / "x.npy", 200)
    elif damage == "gone":
        (folder / "x.npy").unlink()
    else:
        (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="delete .* to rebuild"):
        store.ensure(tmp_path / "s", build)


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "cannot be written")])
def test_disk_trouble_is_one_line(tmp_path: Path, code: int, words: str) -> None:
    def broken(_: Path) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(DataError, match=words):
        store.ensure(tmp_path / "s", broken)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_disk(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "x.npy").symlink_to("/dev/full")
        np.save(folder / "x.npy", np.arange(10_000))

    with pytest.raises(DataError, match="no space left"):
        store.ensure(tmp_path / "s", fill)


def test_kill_leaves_nothing_that_counts_as_whole(tmp_path: Path) -> None:
    code = (
        "import sys, time, numpy as np; from pathlib import Path; from lra.tasks import store\n"
        "def build(f):\n np.save(f / 'x.npy', np.arange(9)); print('half', flush=True); time.sleep(60)\n"
        "store.ensure(Path(sys.argv[1]), build)"
    )
    code = code.replace("sys.argv[1]", repr(str(tmp_path / "s")))
    command = [sys.executable, "-m", "tests.help.program", code]
    child = Asked(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment())
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "s").exists()
    assert len(store.array(store.ensure(tmp_path / "s", build), "x")) == 100


WRONG = [None, [], "x", 7, True, 1.5, {}, {"a": []}]


def wrong_manifests() -> list[object]:
    whole = {"files": {"x.npy": 928}, "sha256": {"x.npy": "0"}, "facts": {"note": 1}}
    cases: list[object] = list(WRONG)
    cases += [whole | {key: w} for key in whole for w in WRONG if w != {}]
    cases += [whole | {"files": {"x.npy": w}} for w in WRONG] + [
        whole | {"facts": {"note": w}} for w in WRONG if w != 7
    ]
    cases += [whole | {"files": {name: 1}} for name in ("../x", "/etc/passwd")] + [whole | {"files": {"x.npy": -1}}]
    cases += [{key: whole[key] for key in whole if key != gone} for gone in ("files", "facts")]
    return cases


def test_a_manifest_of_another_type_anywhere_is_one_line(tmp_path: Path) -> None:
    folder = store.ensure(tmp_path / "s", build)
    assert store.facts(folder, {"note": int}) == {"note": 1}
    texts = [json.dumps(case) for case in wrong_manifests()] + ["[" * 100_000, "1e", '{"files": {"x.npy": 1e400}}']
    for text in texts:
        (folder / "manifest.json").write_text(text)
        with pytest.raises(DataError, match="delete .* to rebuild it") as caught:
            store.facts(store.ensure(folder, build), {"note": int})
        assert "\n" not in str(caught.value), text


def test_what_a_json_value_fits() -> None:
    assert store.fits({"a": [1, 2], "b": {"x": "y"}, "c": 0}, {"a": [int], "b": {"*": str}})
    assert not any(store.fits(v, int) for v in (True, 1.0, "1", None)) and not store.fits([1, "2"], [int])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EIO])
def test_whoever_cannot_write_is_told_what_chooses_the_place(tmp_path: Path, code: int) -> None:
    assert "LRA_DATA" in store.explain(OSError(code, os.strerror(code)), tmp_path)


def test_compiled_code_needs_no_place_to_be_kept(tmp_path: Path) -> None:
    """A read-only checkout and home, by a stand-in: every place that numba asks for refuses."""
    code = (
        "import numba.core.caching as c\n"
        "for kind in (c.UserProvidedCacheLocator, c.InTreeCacheLocator, c.UserWideCacheLocator):\n"
        " kind.ensure_cache_path = lambda self: (_ for _ in ()).throw(PermissionError(13, 'no'))\n"
        "from lra.tasks.stream import seeded, uniform\n"
        "assert 0 <= uniform(seeded(1)) < 1 and not uniform.stats.cache_path"
    )
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
