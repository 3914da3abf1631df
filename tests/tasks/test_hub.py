"""The hub: fetched whole or not at all, bad connections borne or reported in one line."""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lra.tasks import hub, parquet
from lra.tasks.base import SPLITS, DataError
from lra.tasks.image.exam import Image
from lra.tasks.text import Text

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

TABLE = pa.table({"text": ["a", "b"], "label": [0, 1]})

WHOLE = "rows 22500 2500 25000 text"


def fresh(env: dict[str, str], noise: Path, kind: str, names: tuple[str, ...]) -> list[str]:
    """In a process of its own, before huggingface_hub reads its environment: a line for each name.

    Waits are left out, huggingface_hub's own too: what is tried is the same.
    """
    os.environ.update(env)
    os.dup2(os.open(noise, os.O_CREAT | os.O_WRONLY), 2)
    time.sleep = lambda seconds: None
    lines = []
    for name in names:
        task = {"text": Text, "image": Image}[kind](hub=name)
        try:
            lines.append(" ".join(map(str, ("rows", *(len(task.split(s)) for s in SPLITS), task.row))))
        except DataError as error:
            lines.append(f"DataError {error}")
    return lines


def load(endpoint: str, home: Path, *names: str, kind: str = "text", **env: str) -> list[str]:
    """`fresh` with this hub and cache. Apart from our own warning nothing may be said on stderr."""
    noise = home / "stderr"
    noise.unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "LRA_DATA": str(home / "lra"), "NO_PROXY": "127.0.0.1"}
    with ProcessPoolExecutor(1, context) as pool:
        lines = pool.submit(fresh, variables | env, noise, kind, names or ("stanfordnlp/imdb",)).result()
    said = noise.read_text().splitlines()
    assert all("taking stanfordnlp/imdb from the cache" in line for line in said), said
    return lines


@pytest.fixture
def hub_folder(shared_data: Path, tmp_path: Path) -> Path:
    """What the mirror shows: the Text data only, so that it is up at once."""
    root = tmp_path / "hub" / "stanfordnlp"
    root.mkdir(parents=True)
    (root / "imdb").symlink_to(shared_data / "hub" / "stanfordnlp" / "imdb")
    return root.parent


@contextlib.contextmanager
def mirror(root: Path, *faults: str) -> Iterator[str]:
    program = SHARED.parent / "bin" / "hub-mirror"
    if not program.exists():
        pytest.skip(f"no hub mirror at {program}")
    command = [sys.executable, str(program), "0", "--root", str(root), *faults]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.kill()


@pytest.mark.shared
@pytest.mark.slow
def test_text_comes_from_the_hub_and_then_from_its_cache(hub_folder: Path, tmp_path: Path) -> None:
    with mirror(hub_folder) as endpoint:
        whole, unknown = load(endpoint, tmp_path, "stanfordnlp/imdb", "stanfordnlp/imbd")
    assert whole == WHOLE
    assert f"{endpoint} has no data set stanfordnlp/imbd" in unknown and "task.path=" in unknown
    assert load(endpoint, tmp_path) == [WHOLE]  # the server is gone
    assert not (tmp_path / "lra").exists()


@pytest.mark.shared
@pytest.mark.slow
def test_the_cache_serves_without_a_word_to_the_network(hub_folder: Path, tmp_path: Path) -> None:
    with mirror(hub_folder) as endpoint:
        assert load(endpoint, tmp_path) == [WHOLE]
    assert load(endpoint, tmp_path, HF_HUB_OFFLINE="1") == [WHOLE]
    assert (tmp_path / "stderr").read_text() == ""


@pytest.mark.shared
@pytest.mark.slow
def test_images_come_from_the_hub(shared_data: Path, tmp_path: Path) -> None:
    with mirror(shared_data / "hub") as endpoint:
        assert load(endpoint, tmp_path, "uoft-cs/cifar10", kind="image") == ["rows 45000 5000 10000 image_jpeg"]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ("--cut-body", "2000000"),
        *(
            pytest.param((kind, n), marks=pytest.mark.slow)
            for kind, n in (
                ("--fail-after", "0"),
                ("--fail-after", "5"),
                ("--fail-after", "9"),
                ("--cut-body", "300"),
                ("--cut-body", "20000"),
            )
        ),
    ],
    ids="".join,
)
def test_a_bad_connection_ends_in_one_line_and_leaves_nothing(
    hub_folder: Path, tmp_path: Path, faults: tuple[str, ...]
) -> None:
    with mirror(hub_folder, *faults) as endpoint:
        (said,) = load(endpoint, tmp_path)
    assert said.startswith("DataError hub: stanfordnlp/imdb could not be fetched from " + endpoint)
    assert "attempts" in said and said.endswith("task.path=FOLDER")
    with mirror(hub_folder) as endpoint:
        assert load(endpoint, tmp_path) == [WHOLE]


@pytest.mark.shared
@pytest.mark.parametrize("after", [pytest.param(n, marks=pytest.mark.slow) for n in (5, 0, 3, 6, 9, 11)])
def test_a_connection_that_recovers_is_borne(hub_folder: Path, tmp_path: Path, after: int) -> None:
    with mirror(hub_folder, "--fail-after", str(after), "--fail-count", "3") as endpoint:
        assert load(endpoint, tmp_path) == [WHOLE]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("HF_ENDPOINT", "http://127.0.0.1:9", "http://127.0.0.1:9 cannot be reached .Connection refused. and a/b is"),
        (
            "HF_HUB_OFFLINE",
            True,
            "HF_HUB_OFFLINE is set and a/b is not in the cache .*; unset it, or give a local copy",
        ),
    ],
)
def test_no_network_and_offline_say_what_to_do(
    monkeypatch, tmp_path, setting: str, value: object, message: str
) -> None:
    import datasets

    monkeypatch.setattr(hub, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(datasets.config, setting, value)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(hub.Unreachable, match="^hub: " + message) as caught:
        hub.fetch("a/b")
    assert str(caught.value).endswith("task.path=FOLDER") and "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [Text, Image])
def test_without_the_hub_the_data_folder_is_looked_at(monkeypatch, tmp_path: Path, task: type) -> None:
    def unreachable(name: str) -> None:
        raise hub.Unreachable(f"hub: no {name}")

    monkeypatch.setattr(hub, "fetch", unreachable)
    with pytest.raises(DataError, match="hub: no "):
        task(data_dir=str(tmp_path)).split("train")
    for folder in ("aclImdb", "cifar-10-batches-py"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=f"{tmp_path}.*does not exist"):
        task(data_dir=str(tmp_path)).split("train")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(hub, "_unreachable", lambda endpoint: None)


def fail_with(monkeypatch: pytest.MonkeyPatch, *errors: Exception | dict) -> list[str]:
    """Let `datasets.load_dataset` raise or return these one after the other; returns its calls."""
    import datasets

    calls: list[str] = []

    def load_dataset(name: str):
        calls.append(name)
        outcome = errors[min(len(calls), len(errors)) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


class CastError(Exception):
    """As `datasets` raises where files have other columns than their card says."""


FULL = OSError(errno.ENOSPC, "No space left on device")
FORBIDDEN = PermissionError(errno.EACCES, "Permission denied", "/cache/datasets")


@pytest.mark.parametrize(
    ("error", "calls", "message"),
    [
        (ConnectionError("gone\nfor good"), 3, "could not be fetched from .* in 3 attempts .the last: gone.;"),
        (caused(RuntimeError("generation"), TimeoutError("slow")), 3, "in 3 attempts .the last: generation"),
        (RuntimeError("odd\nand more"), 1, "a/b on .* cannot be read .RuntimeError: odd and more.; tell whoever"),
        (ValueError("yaml"), 1, "cannot be read .ValueError: yaml."),
        (caused(RuntimeError("generation"), CastError("columns")), 1, "cannot be read .CastError: columns."),
        (caused(RuntimeError("generation"), FULL), 1, "no space left below .*HF_HOME"),
        (caused(RuntimeError("generation"), FORBIDDEN), 1, "/cache/datasets cannot be written or read; set HF_HOME"),
        (caused(RuntimeError("generation"), pa.ArrowInvalid("no footer")), 1, r"cannot be read \(no footer\)"),
    ],
)
def test_errors_become_one_line(online: None, monkeypatch, error: Exception, calls: int, message: str) -> None:
    made = fail_with(monkeypatch, error)
    with pytest.raises(DataError, match="hub: .*" + message) as caught:
        hub.fetch("a/b")
    assert len(made) == calls and "\n" not in str(caught.value)


def test_a_card_of_other_splits_is_not_tried_again(online: None, monkeypatch) -> None:
    from datasets.exceptions import NonMatchingSplitsSizesError

    made = fail_with(monkeypatch, NonMatchingSplitsSizesError("[{'expected': 9,\n'recorded': 8}]"))
    with pytest.raises(DataError, match="hub: the card of a/b on .* says other splits than its files hold"):
        hub.fetch("a/b")
    assert len(made) == 1


def test_a_second_attempt_may_succeed(online: None, monkeypatch) -> None:
    import datasets

    whole = datasets.DatasetDict({s: datasets.Dataset(TABLE) for s in ("train", "test", "unsupervised")})
    made = fail_with(monkeypatch, ConnectionError("gone"), whole)
    tables = hub.fetch("a/b")
    assert len(made) == 2 and list(tables) == ["train", "test"]
    assert tables["test"]["text"].to_pylist() == ["a", "b"]


def test_no_new_attempt_after_patience_is_gone(online: None, monkeypatch) -> None:
    monkeypatch.setattr(hub, "PATIENCE", -1.0)
    made = fail_with(monkeypatch, ConnectionError("gone"))
    with pytest.raises(DataError, match="in 1 attempts"):
        hub.fetch("a/b")
    assert len(made) == 1


def test_a_data_set_without_the_splits_is_refused(online: None, monkeypatch) -> None:
    import datasets

    fail_with(monkeypatch, datasets.DatasetDict({"train": datasets.Dataset(TABLE)}))
    with pytest.raises(DataError, match="hub: a/b has no split test, only train"):
        hub.fetch("a/b")


def test_others_settings_are_as_before(online: None, monkeypatch) -> None:
    import datasets

    datasets.logging.set_verbosity_info()
    try:
        fail_with(monkeypatch, ConnectionError("gone"))
        with pytest.raises(DataError):
            hub.fetch("a/b")
        assert datasets.logging.get_verbosity() == logging.INFO
        assert not datasets.are_progress_bars_disabled()
    finally:
        datasets.logging.set_verbosity_warning()


def hub_copy(root: Path, name: str, *names: str) -> Path:
    """What huggingface_hub's client keeps of a data set whose files were downloaded one by one."""
    folder = root / "hub" / f"datasets--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    for file in names:
        pq.write_table(TABLE, folder / "snapshots" / ("0" * 40) / file)
    return folder / "snapshots" / ("0" * 40)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went to the network"))


def test_a_snapshot_in_the_cache_is_a_cached_copy(offline: None, tmp_path: Path) -> None:
    folder = hub_copy(tmp_path, "a/b", "train.parquet", "test.parquet")
    assert hub.fetch("a/b")["test"]["text"].to_pylist() == ["a", "b"] and hub.cached("a/b") == folder
    hub_copy(tmp_path, "a/c", "train.parquet")
    with pytest.raises(hub.Unreachable, match=r"the cache holds a/c in part \(.* holds no test\*.parquet\); unset it"):
        hub.fetch("a/c")
    assert hub.cached("a/c") is None


def test_a_local_folder_of_the_hubs_name_is_not_the_hub(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` takes the folder for what was asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("train", "test"):
        pq.write_table(TABLE, tmp_path / "a" / "b" / f"{name}.parquet")
    with pytest.raises(hub.Unreachable, match="a/b is not in the cache"):
        hub.fetch("a/b")
    assert hub.cached("a/b") is None


@pytest.mark.parametrize("name", ["../b", "/a/b", "a/b/c", "./a", "", "a b", "csv", "parquet"])
def test_what_is_no_name_of_the_hub_is_refused(offline: None, name: str) -> None:
    with pytest.raises(DataError, match="by task.hub|task.hub: .* is not a name of the hub"):
        hub.fetch(name)


@pytest.mark.parametrize("task", [Text, Image])
def test_another_data_set_is_not_what_the_data_folder_holds(monkeypatch, tmp_path: Path, task: type) -> None:
    def unreachable(name: str) -> None:
        raise hub.Unreachable(f"hub: no {name}")

    monkeypatch.setattr(hub, "fetch", unreachable)
    for folder in ("aclImdb", "cifar-10-batches-py"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="hub: no a/b"):
        task(data_dir=str(tmp_path), hub="a/b").split("train")


@pytest.mark.shared
@pytest.mark.slow
def test_a_card_that_disagrees_with_its_files_is_said_at_once(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "stanfordnlp" / "imdb"
    (folder / "plain_text").mkdir(parents=True)
    (folder / "README.md").write_bytes((shared_data / "hub/stanfordnlp/imdb/README.md").read_bytes())
    for name in ("train", "test"):
        pq.write_table(TABLE, folder / "plain_text" / f"{name}-00000-of-00001.parquet")
    with mirror(tmp_path / "hub", "--log", str(tmp_path / "log")) as endpoint:
        started = time.monotonic()
        (said,) = load(endpoint, tmp_path)
    assert "the card of stanfordnlp/imdb on" in said and time.monotonic() - started < 60
    asked = [line for line in (tmp_path / "log").read_text().splitlines() if "/resolve/" in line and "train-0" in line]
    assert len(asked) <= 3, asked  # HEAD, GET and a redirection: one attempt


@pytest.mark.parametrize("name", ["with space", "ü", "a,b", "label=3", "100%", "[x]", "a'b"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for split in ("train", "test"):
        pq.write_table(TABLE, tmp_path / name / f"{split}.parquet")
    for table in parquet.read(tmp_path / name).values():
        assert table.column_names == ["text", "label"]


def test_a_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "LARGEST", 1 << 24)
    pq.write_table(TABLE, tmp_path / "test.parquet")
    for table in (
        pa.table({"text": ["x" * (1 << 26)], "label": [0]}),
        pa.table({"text": ["x" * (1 << 16)] * 4000, "label": [0] * 4000}),  # by its dictionary 64 KiB
    ):
        pq.write_table(table, tmp_path / "train.parquet", compression="gzip")
        assert (tmp_path / "train.parquet").stat().st_size < 1 << 20
        with pytest.raises(DataError, match="task.path: .*train.parquet unpacks to more than"):
            parquet.read(tmp_path)


def test_a_folder_is_read_whatever_its_depth_and_shards(tmp_path: Path) -> None:
    inner = tmp_path / "plain_text"
    inner.mkdir()
    pq.write_table(TABLE.slice(1), inner / "train-00001-of-00002.parquet")
    pq.write_table(TABLE.slice(0, 1), inner / "train-00000-of-00002.parquet")
    pq.write_table(TABLE, inner / "test.parquet")
    pq.write_table(TABLE, inner / "unsupervised-00000-of-00001.parquet")
    tables = parquet.read(tmp_path)
    assert {k: v["text"].to_pylist() for k, v in tables.items()} == {"train": ["a", "b"], "test": ["a", "b"]}


def spoil(folder: Path, case: str) -> None:
    train, test = folder / "train-00000-of-00001.parquet", folder / "test-00000-of-00001.parquet"
    pq.write_table(TABLE, train)
    pq.write_table(TABLE, test)
    if case == "no test":
        test.unlink()
    elif case == "empty file":
        train.write_bytes(b"")
    elif case == "cut":
        train.write_bytes(train.read_bytes()[:-50])
    elif case == "not parquet":
        test.write_text("text\tlabel\n")
    elif case == "shard missing":
        train.rename(folder / "train-00001-of-00002.parquet")
    elif case == "two copies":
        pq.write_table(TABLE, folder / "train.parquet")
    elif case == "two sets":
        (folder / "other").mkdir()
        pq.write_table(TABLE, folder / "other" / "train.parquet")
    elif case == "different columns":
        train.rename(folder / "train-00000-of-00002.parquet")
        pq.write_table(pa.table({"text": [1]}), folder / "train-00001-of-00002.parquet")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no test", r"holds no test\*.parquet"),
        ("empty file", "train-00000-of-00001.parquet cannot be read"),
        ("cut", "train-00000-of-00001.parquet cannot be read .* it may be cut short"),
        ("not parquet", "test-00000-of-00001.parquet cannot be read"),
        ("shard missing", "does not hold each shard of train once"),
        ("two copies", "does not hold each shard of train once"),
        ("two sets", "holds several data sets"),
        ("different columns", "the train files in .* have different columns"),
    ],
)
def test_a_spoilt_folder_gets_one_clear_line(tmp_path: Path, case: str, message: str) -> None:
    spoil(tmp_path, case)
    with pytest.raises(DataError, match="task.path: .*" + message) as caught:
        parquet.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_read_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in, because root may read everything."""
    spoil(tmp_path, "")

    def refuse(file: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(DataError, match=r"task.path: no permission to read .*train-00000-of-00001.parquet"):
        parquet.read(tmp_path)


def test_it_waits_longer_from_attempt_to_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(hub.time, "sleep", waited.append)
    monkeypatch.setattr(hub, "_load", lambda name: (_ for _ in ()).throw(ConnectionError("reset")))
    with pytest.raises(hub.Unreachable, match=f"in {len(hub.WAITS) + 1} attempts"):
        hub._fetch("a/b", "http://x")
    assert waited == list(hub.WAITS) and waited == sorted(waited) and waited[0] > 0
