"""For people who write Python: build, run, audit, load, boards, figures, compare."""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import lra
from lra.errors import UserError
from lra.marks import stats
from tests.help import tiny

pytestmark = pytest.mark.usefixtures("warm")


class Blend(nn.Module):
    """A mixer of somebody's own, in a module that can be imported."""

    def __init__(self, dim: int, gain: float = 1.0) -> None:
        super().__init__()
        self.out, self.gain = nn.Linear(dim, dim), gain

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        weight = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        return self.gain * self.out(x + mean)


class Leaky(Blend):
    """It looks at the padding."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(x + x.mean(1, keepdim=True))


def words(tmp_path: Path, *more: str) -> list[str]:
    return tiny.words(tmp_path, "measure.enabled=false", *more)


def test_build_takes_words_or_a_class() -> None:
    exam, net = lra.build("task=listops", "size.depth=1", mixer=Blend)
    assert exam.num_classes == 10 and isinstance(net.stack.layers[0].mixer, Blend)
    _, net = lra.build("task=listops", mixer=functools.partial(Blend, gain=3.0))
    assert net.stack.layers[1].mixer.gain == 3.0


def test_run_records_a_class_under_a_name_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = lra.run(*words(tmp_path), mixer=Blend)
    assert (record.model, record.status, record.task) == ("blend", "ok", "listops")
    assert list(record.config["sources"]) == [f"{__name__}.Blend"]
    assert "accuracy" in capsys.readouterr().out
    assert repr(record).startswith("<blend on listops-24, budget quick, seed 0: ok, accuracy ")
    other = lra.run(*words(tmp_path), mixer=Blend, name="of_mine")
    assert other.model == "of_mine" and other.accuracy_test == record.accuracy_test


def test_run_from_a_thread(tmp_path: Path) -> None:
    found: list = []
    thread = threading.Thread(target=lambda: found.append(lra.run(*words(tmp_path, "model=linear"))))
    thread.start()
    thread.join(240)
    assert [r.status for r in found] == ["ok"]


def test_run_inside_this_process_from_a_thread(tmp_path: Path) -> None:
    """What runs a run itself must not touch signals outside the main thread."""
    from lra.runner.run import run
    from lra.settings import compose

    codes: list = []
    settings = compose.config(words(tmp_path, "model=linear"))
    thread = threading.Thread(target=lambda: codes.append(run(settings)))
    thread.start()
    thread.join(240)
    assert codes == [0]


def test_run_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train.steps"):
        lra.run(*words(tmp_path, "train.steps=-1"))
    with pytest.raises(UserError, match="task.path"):
        lra.run(*words(tmp_path, f"task.path={tmp_path / 'absent'}"))


class Inner:
    """Where a class is defined matters only for how a new process finds it."""

    class Nested(Blend):
        pass


@pytest.mark.parametrize(
    ("mixer", "said"),
    [
        (type("Typed", (Blend,), {"__module__": "__main__"}), "put it into a file, say typed.py"),
        (lambda dim: Blend(dim), "put it into a file"),
        (functools.partial(Blend, 16), "positional"),
        (functools.partial(Blend, gain=object()), "cannot be written down"),
        (3, "is not a class or a function"),
    ],
)
def test_what_another_process_could_not_import_is_refused(mixer: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        lra.build("task=listops", mixer=mixer)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(UserError, match="there is a model performer already"):
        lra.build("task=listops", mixer=Blend, name="performer")


def test_audit_is_a_line_in_ones_own_tests() -> None:
    quick = ("shapes", "gradients", "padding", "batch", "process")
    card = lra.audit(Blend, "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", length=64, points=quick)
    assert card.holds, card
    assert [f.name for f in card.findings] == list(quick) and "nothing is broken of what was asked" in repr(card)
    assert lra.audit(Leaky, "size.dim=16", length=64, points=("padding",)).broken == ["padding"]
    assert lra.audit("model=linear", points=("order",)).holds


@pytest.fixture(scope="module")
def results() -> lra.results.Results:
    return lra.load(tiny.ROOT / "results")


def test_load_boards_and_figures(results: object) -> None:
    assert {"row", "model", "accuracy", "low", "high"} <= set(results.cells.columns)
    assert len(results.floors) and len(results.points) and len(results.runs) >= 500
    (first, *_) = lra.boards(results)
    assert first.budget == "quick" and any(line.name == "performer" for line in first.lines)
    assert any(name.startswith("bubble-quick") for name in lra.figures(results))
    assert ", 0 not shown" in repr(results) and f"{len(results.runs)} records" in repr(results)
    assert "accuracy, %" in repr(lra.boards(results)) and "performer" in repr(lra.boards(results))


def test_compare_pairs_items_and_seeds(results: object) -> None:
    table = lra.compare("performer", ["transformer", "linear"], task="listops", results=results)
    assert list(table.b) == ["transformer", "linear"] and (table.seeds_a == 3).all()
    cells = results.cells[results.cells["row"] == table.row.iloc[0]].set_index("model")
    for line in table.itertuples():
        mine, theirs = (results.answers.right(cells.answers[name]) for name in (line.a, line.b))
        assert line.difference == pytest.approx(mine.mean() - theirs.mean())
        assert line.p == pytest.approx(float(stats.compare(mine, theirs))) and line.low < line.difference < line.high
    assert np.allclose(sorted(table.p_holm), sorted(np.minimum(1, np.maximum.accumulate(np.sort(table.p) * [2, 1]))))
    assert "p_holm" in table.to_string()
    with pytest.raises(UserError, match="Did you mean performer"):
        lra.compare("performr", "linear", task="listops", results=results)


def test_run_from_a_notebooks_kernel(tmp_path: Path) -> None:
    """A kernel has its own streams without file descriptors, and its own main thread."""
    import subprocess
    import sys

    code = """
import io, sys
class Stream(io.StringIO):
    def fileno(self):
        raise io.UnsupportedOperation("fileno")
sys.stdout, sys.stderr, real = Stream(), Stream(), sys.stdout
import lra
record = lra.run(*sys.argv[1:])
print(record.status, "accuracy" in sys.stdout.getvalue(), "measured" in sys.stderr.getvalue(), file=real)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *tiny.words(tmp_path, "model=linear")],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tiny.ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["ok", "True", "True"], done.stderr
