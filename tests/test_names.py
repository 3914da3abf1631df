"""Names of ours that collide with nobody's: a user's models.py, models/ and tasks.py stay the user's."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lra.names import canonical_target, resolved, with_todays_names
from lra.record import store
from tests.help import tiny

MIXER = """
from torch import nn


class Mine(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.out = nn.Linear(dim, dim)

    def forward(self, x, mask):
        return self.out(x)
"""
YAML = "# @package _global_\nmodel:\n  mixer: {_target_: models.Mine, _partial_: true}\nclaims: {time: 1, memory: 1}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models.performer.Performer", "lra.models.performer.Performer"),
        ("models.attention.MultiHead", "lra.models.parts.heads.MultiHead"),
        ("tasks.listops.ListOps", "lra.tasks.listops.ListOps"),
        ("lra.models.performer.Performer", "lra.models.performer.Performer"),
        ("gate.Gate", "gate.Gate"),
    ],
)
def test_old_names_are_understood(old: str, new: str) -> None:
    assert resolved(old) == new
    assert canonical_target(old) == (new.rsplit(".", 1)[1] if new.startswith("lra") else new)


def test_every_class_in_a_tree_gets_todays_name() -> None:
    old = {"_target_": "models.attention.MultiHead", "dim": 8, "inner": [{"_target_": "gate.Gate"}, "models.a.B", None]}
    new = {"_target_": "lra.models.parts.heads.MultiHead", "dim": 8}
    assert with_todays_names(old) == new | {"inner": [{"_target_": "gate.Gate"}, "models.a.B", None]}
    assert with_todays_names(({"part": old},)) == [{"part": with_todays_names(old)}]


def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MIXER)
    (tmp_path / "tasks.py").write_text("raise RuntimeError('a module of the user, which nobody asked for')\n")
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "mine.yaml").write_text(YAML)
    old = "# @package _global_\nmodel:\n  mixer: {_target_: models.linear.LinearAttention, _partial_: true}\n"
    (tmp_path / "mine" / "model" / "old.yaml").write_text(old)
    return tmp_path


def built(place: Path, model: str) -> None:
    """By a door that builds it in a process of its own."""
    done = tiny.lra(f"model={model}", "--only", "size", "--config-dir", "mine", module="lra.check", cwd=place)
    assert done.returncode == 0 and "nothing is broken" in done.stdout, done.stderr


def test_in_a_folder_with_models_and_tasks_of_ones_own(tmp_path: Path) -> None:
    place = folder(tmp_path)
    done = tiny.lra(*tiny.words(place, "model=mine", "measure.enabled=false"), "--config-dir", "mine", cwd=place)
    assert done.returncode == 0, done.stderr
    (r,) = [r for _, r in store.find(place / "results") if r.kind == "model"]
    assert r.status == "ok" and list(r.config["sources"]) == ["models.Mine"]
    built(place, "old")


def test_a_package_called_models_is_the_users(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "models.py").unlink()
    (place / "models").mkdir()
    (place / "models" / "__init__.py").write_text("")
    (place / "models" / "mine.py").write_text(MIXER)
    text = (place / "mine" / "model" / "mine.yaml").read_text().replace("models.Mine", "models.mine.Mine")
    (place / "mine" / "model" / "mine.yaml").write_text(text)
    for model in ("mine", "old"):
        built(place, model)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked where nothing else of ours can be found."""
    pytest.importorskip("hatchling", reason="builds a wheel; hatchling is not installed")
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
        assert {n for n in names if not n.endswith(".dist-info")} == {"lra"}, "what is installed is called lra alone"
        archive.extractall(place / "site")
    return place / "site"


@pytest.mark.slow
def test_from_a_wheel(wheel: Path, tmp_path: Path, model: str = "mine") -> None:
    place = folder(tmp_path)
    words = tiny.words(place, f"model={model}", "measure.enabled=false")
    done = tiny.lra(*words, "--config-dir", "mine", cwd=place, PYTHONPATH=str(wheel))
    assert done.returncode == 0, done.stderr
    (r,) = [r for _, r in store.find(place / "results") if r.kind == "model"]
    assert (r.status, r.commit) == ("ok", None)
    board = tiny.lra("leaderboard", cwd=place, PYTHONPATH=str(wheel))
    assert board.returncode == 0 and model in board.stdout, board.stderr


def test_a_checkouts_record_has_its_commit() -> None:
    from lra.machine.facts import commit

    if not (tiny.ROOT / ".git").exists():
        pytest.skip("this copy of the tree is no checkout")
    found, dirty = commit()
    assert found is not None and len(found) == 40 and dirty in (True, False)
