"""What is to come lands without an edit: each of these is a file of somebody's own, and nothing in lra/ knows it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lra.leaderboard import columns
from lra.record import store
from tests.help import answered, tiny

AHEAD = '''
import numpy as np
from lra.tasks.base import NOT_ASKED, Example, Task


class Items:
    def __init__(self, count, seed):
        draw = np.random.default_rng(seed)
        self.lengths, self.labels, self.items = draw.integers(4, 16, count), np.zeros(count, int), []
        for length in self.lengths:
            tokens = draw.integers(1, 9, length)
            label = np.where(np.arange(length) % 2, np.roll(tokens, 1) % 4, NOT_ASKED)
            self.items.append(Example((tokens,), label))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Ahead(Task):
    """At every other position: the token before it, modulo 4."""

    vocab_size, num_classes, standard_len, symbols, answers = 9, 4, 16, "abcdefgh", "token"
    local_rules = ()

    def load(self):
        return {name: Items(n, i) for i, (name, n) in enumerate([("train", 80), ("valid", 20), ("test", 20)])}

    def identity(self):
        return "ahead 1"

    def rules(self):
        return {}
'''
AHEAD_YAML = """# @package _global_
task: {_target_: ahead.Ahead, name: ahead, max_len: 16, data_dir: null}
exam: {of: ahead, title: "One Ahead", order: 40}
"""
ODD = """
from torch import nn


class Odd(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.slow, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for parameter in self.slow.parameters():
            parameter.lra = {"rate": 0.1, "decay": 0.0}

    def forward(self, x, mask):
        y = self.slow(x) * mask[..., None]
        if self.training:
            self.extra_loss = 0.01 * y.square().mean()
        return self.out(y.roll(1, 1) + y)
"""
ODD_YAML = """# @package _global_
model:
  mixer: {_target_: odd.Odd, _partial_: true}
claims: {time: 1.0, memory: 1.0}
"""
SILENT = '''
import torch


class Silent:
    """Whatever was learnt, the answer is the first class."""

    def __init__(self, bias):
        self.bias = bias

    def after(self, trainee):
        with torch.no_grad():
            trainee.model.head[-1].weight.zero_()
            trainee.model.head[-1].bias.zero_()[0] = self.bias
        return trainee
'''
SILENT_YAML = "# @package _global_\ntreatment: {_target_: silent.Silent, bias: 5.0}\n"
NOTED = """
from pathlib import Path
from lra.sweep.launch.local import Local


class Noted(Local):
    def __init__(self, to):
        self.to = to

    def launch(self, job, seconds=None, over=0):
        with Path(self.to).open("a") as out:
            out.write(job.label + "\\n")
        return super().launch(job, seconds, over)
"""


pytestmark = pytest.mark.xdist_group("changes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, and the records of a sweep over two models that another launcher has started."""
    tmp_path = tmp_path_factory.mktemp("changes")
    for name, code, group, yaml in (
        ("ahead", AHEAD, "task", AHEAD_YAML), ("odd", ODD, "model", ODD_YAML),
        ("silent", SILENT, "treatment", SILENT_YAML),
        ("noted", NOTED, "launcher", "# @package _global_\nlauncher: {_target_: noted.Noted, to: noted.txt}\n"),
    ):  # fmt: skip
        (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / "mine" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / group / f"{name}.yaml").write_text(yaml)
    assert "2 runs, 2 ok" in run(tmp_path, "-m", "model=odd,linear", "launcher=noted", "measure.enabled=false")
    return tmp_path


def run(folder: Path, *words: str, task: str = "listops", code: int = 0) -> str:
    given = [w for w in tiny.words(folder) if task == "listops" or not w.startswith("task")]
    many = [w for w in words if w == "-m"]
    rest = [f"task={task}", *given[task == "listops" :], *(w for w in words if w != "-m")]
    done = tiny.lra(*many, "--config-dir", "mine", *rest, cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def records(folder: Path, task: str = "listops") -> list:
    return [r for _, r in store.find(folder / "results") if r.kind == "model" and r.task == task]


def test_an_exam_with_answers_at_positions_has_its_own_column(folder: Path) -> None:
    run(folder, "model=linear", task="ahead")
    (r,) = records(folder, "ahead")
    assert r.status == "ok" and r.items_test > 20 and r.cost["step_peak_bytes"] > 0
    done = tiny.lra(module="lra.leaderboard", cwd=folder)
    assert done.returncode == 0 and "One" in done.stdout and "Ahead" in done.stdout, done.stdout + done.stderr
    cells = list(csv.DictReader((folder / "results" / "leaderboard.csv").open()))
    assert [(c["column"], c["model"].split()[0], int(c["items"])) for c in cells if c["row"] == "ahead"] == [
        ("One Ahead", "linear", r.items_test)
    ]


def test_a_model_with_an_extra_loss_and_two_groups(folder: Path) -> None:
    r = next(r for r in records(folder) if r.model == "odd")
    assert r.status == "ok" and [(g["rate"], g["decay"]) for g in r.groups] == [(1.0, 0.01), (0.1, 0.0)]


def test_a_treatment_and_what_it_is_to_an_identity(folder: Path) -> None:
    run(folder, "model=linear", "measure.enabled=false", "treatment=silent")
    plain, treated = (r for r in records(folder) if r.model == "linear")
    assert plain.config_hash != treated.config_hash and treated.variant[-1] == "treatment=silent"
    assert plain.variant == treated.variant[:-1] and plain.curve[-1]["valid_loss"] == treated.curve[-1]["valid_loss"]
    assert plain.loss_test != treated.loss_test


def test_a_launcher(folder: Path) -> None:
    said = (folder / "noted.txt").read_text().splitlines()
    assert [line.split()[1] for line in said] == ["odd", "linear"]
    before = len(records(folder))
    run(folder, "-m", "model=odd,linear", "measure.enabled=false")  # another launcher does not make other runs
    assert len(records(folder)) == before and len((folder / "noted.txt").read_text().splitlines()) == 2


def test_a_column_of_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered.run(tmp_path, "performer", 0.5)
    own = tmp_path / "columns"
    own.mkdir()
    text = 'TITLE, ABOUT = "Letters", "of its name"\n\n\ndef text(line):\n    return f"{len(line.name)} letters"\n\n\n'
    (own / "letters.py").write_text(text + "def value(line):\n    return float(len(line.name))\n")
    monkeypatch.setattr(columns, "__path__", [*columns.__path__, str(own)])
    from lra import boards, load
    from lra.leaderboard import page

    shown = page.render(boards(load(tmp_path)), {})
    assert "Letters" in shown and "9 letters" in shown
