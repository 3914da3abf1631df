"""What wandb is shown, and that neither its absence, nor a missing key, nor a dead network fails or holds up a run."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra.record import store
from lra.runner.mirror import Mirror
from tests.help import tiny

COST = {"status": "ok", "train": {"examples_per_second": 12.0}, "step_peak_bytes": 99}
TABLE = [("transformer", 0.5, 0.4, 0.6), ("floor: majority", 0.2, 0.1, 0.3)]
# A run's calls, in a process of its own: wandb keeps the settings of its first run.
CODE = """
import sys
from pathlib import Path
import lra.runner.mirror
from tests.help import tiny
from tests.runner import test_mirror
lra.runner.mirror.START = 3.0
folder, mode = Path(sys.argv[1]), sys.argv[2]
mirror = lra.runner.mirror.Mirror(test_mirror.settings(folder, mode), {"seed": 0}, "an id", "listops-24", {})
mirror.log(step=1, loss=2.0)
mirror.log(step=1, loss=2.0, valid=0.5)
mirror.finish(*tiny.entry(folder), test_mirror.TABLE)
print("done")
"""


def settings(folder: Path, mode: str, model: str = "transformer", seed: int = 7) -> SimpleNamespace:
    """Of a configuration what the mirror reads."""
    return SimpleNamespace(
        wandb=SimpleNamespace(mode=mode, project="lra", entity=None),
        choices=SimpleNamespace(task="listops", model=model),
        variant=["size.dim=16"],
        budget="quick",
        seed=seed,
        output_dir=str(folder / "out"),
    )


class Fake(SimpleNamespace):
    """wandb as far as the mirror uses it; keeps what it is given, fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.kept, self.summary = fails, {}, {}
        self.url, self.dir, self.points, self.artifacts = "https://example.org/run", "x/files", [], []
        self.Settings = lambda **given: given
        self.setup = lambda settings: None
        self.Table = lambda columns, data: [dict(zip(columns, line, strict=True)) for line in data]

    def fail(self, where: str) -> None:
        if where == self.fails:
            raise TimeoutError(f"{where} took too long\nsecond line")

    def init(self, **given: Any) -> Fake:
        self.fail(f"init {given['mode']}")
        self.kept = given
        return self

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self.fail("log")
        self.points.append((step, values))

    def Artifact(self, name: str, type: str) -> Any:
        files: list[str] = []
        return SimpleNamespace(name=name, files=files, add_file=files.append)

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)

    def finish(self, exit_code: int) -> None:
        self.fail("finish")
        self.exit_code = exit_code


def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Fake, mode: str = "online") -> Fake:
    monkeypatch.setitem(sys.modules, "wandb", fake)
    mirror = Mirror(settings(tmp_path, mode), {"seed": 7}, "20260101T000000Z-ab", "listops-24", COST)
    mirror.log(step=5, loss=2.0, examples_per_second=30.0)
    mirror.log(step=5, loss=2.0, valid=0.5)
    mirror.finish(*tiny.entry(tmp_path), TABLE)
    return fake


def test_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    fake = mirrored(tmp_path, monkeypatch, Fake())
    kept = fake.kept
    assert kept["group"] == "quick/listops-24" and kept["job_type"] == "transformer"
    assert kept["name"] == "listops-24/transformer/size.dim=16/s007"
    assert (
        kept["config"] == {"seed": 7, "run_id": "20260101T000000Z-ab", "row": "listops-24"} and kept["mode"] == "online"
    )
    assert fake.points[:2] == [
        (5, {"train/loss": 2.0, "train/examples_per_second": 30.0}),
        (5, {"train/loss": 2.0, "valid/accuracy": 0.5}),
    ]
    assert fake.summary["cost"] == COST and fake.summary["accuracy_test"] == 0.5
    assert fake.points[2][1]["test"][1] == {"name": "floor: majority", "accuracy": 0.2, "from": 0.1, "to": 0.3}
    (artifact,) = fake.artifacts
    assert [Path(f).suffix for f in artifact.files] == [".json", ".npz"] and fake.exit_code == 0
    assert capsys.readouterr().err == "wandb: https://example.org/run\n"


def test_names_sort_as_their_parts_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for model in ("linear", "transformer"):
        for seed in (2, 10):
            fake = Fake()
            monkeypatch.setitem(sys.modules, "wandb", fake)
            Mirror(settings(tmp_path, "offline", model, seed), {}, "a", "listops-24", {})
            names.append(fake.kept["name"])
    assert names == sorted(names)


@pytest.mark.parametrize("where", ["init offline", "log", "finish"])
def test_an_error_ends_the_mirror_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, where: str
) -> None:
    mirrored(tmp_path, monkeypatch, Fake(where), "offline")
    assert capsys.readouterr().err == f"wandb: {where} took too long; the run goes on without it\n"


def test_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    mirrored(tmp_path, monkeypatch, None)  # what Python keeps for a module that cannot be imported
    assert capsys.readouterr().err.count("\n") == 1


def real(tmp_path: Path, mode: str, terminal: bool = False, **env: str) -> tuple[list[str], list[Path], float]:
    """(lines said, .wandb files left, seconds) of a run with the real package, without network."""
    pytest.importorskip("wandb", reason="wandb is not installed: pip install -e '.[wandb]'")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    clean |= {"HOME": str(tmp_path), "PYTHONPATH": str(tiny.ROOT)} | env
    lead, end = pty.openpty() if terminal else (None, None)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), mode],
        stdin=end if terminal else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=end if terminal else subprocess.PIPE,
        text=True,
        env=clean,
        timeout=120,
    )
    seconds = time.monotonic() - begin
    said = os.read(lead, 10_000).decode() if terminal else done.stderr
    for handle in (lead, end):
        if handle is not None:
            os.close(handle)
    assert done.returncode == 0 and done.stdout == "done\n", said
    return said.splitlines(), sorted((tmp_path / "out").glob("wandb/offline-*/*.wandb")), seconds


@pytest.mark.slow
def test_offline_needs_nothing(tmp_path: Path) -> None:
    said, kept, _ = real(tmp_path, "offline")
    assert said == [] and len(kept) == 1 and kept[0].stat().st_size > 1000
    assert list((tmp_path / "out").rglob("*.table.json"))


@pytest.mark.parametrize("terminal", [pytest.param(False, marks=pytest.mark.slow), True])
def test_online_without_a_key_is_kept_offline(tmp_path: Path, terminal: bool) -> None:
    """On a terminal too: nothing may stop to ask for a key."""
    said, kept, _ = real(tmp_path, "online", terminal)
    assert len(said) == 1 and "API key" in said[0] and f"wandb sync {kept[-1].parent}" in said[0]
    assert kept[-1].stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "is silent"])
def test_online_without_a_server_is_kept_offline(tmp_path: Path, server: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if server == "is silent":
            listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        said, kept, seconds = real(tmp_path, "online", WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    assert len(said) == 1 and f"wandb sync {kept[-1].parent}" in said[0], said
    assert kept[-1].stat().st_size > 1000 and seconds < 60


def test_a_run_is_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command's own code: the names that training reports are the ones the mirror knows."""
    import accelerate  # noqa: F401  (looks for the real wandb as it is imported)

    from lra.runner.run import run

    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert run(tiny.config(tmp_path, "model=transformer", "wandb.mode=offline", "measure.enabled=false")) == 0
    assert [step for step, _ in fake.points] == [1, 2, 3, 3, 4, 5, 6, 6, None]
    (r,) = [r for _, r in store.find(tmp_path / "results") if r.kind == "model"]
    assert fake.kept["config"]["run_id"] == r.run_id and fake.summary["status"] == "ok"
    assert {line["name"] for line in fake.points[-1][1]["test"]} >= {"transformer", "floor: majority"}
