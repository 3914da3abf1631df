"""For people who write Python: build, run, audit, load, boards, figures, compare."""

from __future__ import annotations

import functools
import io
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import lra
from lra.errors import UserError
from lra.marks import stats
from tests.help import answered, tiny

pytestmark = [pytest.mark.usefixtures("warm"), pytest.mark.xdist_group("face")]


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
    record = lra.run(*words(tmp_path), mixer=Blend, name="of_mine")
    assert (record.model, record.status, record.task) == ("of_mine", "ok", "listops")
    assert list(record.config["sources"]) == [f"{__name__}.Blend"]
    assert "accuracy" in capsys.readouterr().out
    assert repr(record).startswith("<of_mine on listops-24, budget quick, seed 0: ok, accuracy ")


class Stream(io.StringIO):
    """A notebook's, which leads to no descriptor."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def test_run_from_a_thread_of_a_notebooks_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel has its own streams without file descriptors; a class alone gets a name of its own."""
    found: list = []
    with monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, Stream())
        thread = threading.Thread(target=lambda: found.append(lra.run(*tiny.words(tmp_path), mixer=Blend)))
        thread.start()
        thread.join(240)
        out, err = sys.stdout.getvalue(), sys.stderr.getvalue()
    assert [(r.model, r.status, r.cost["status"]) for r in found] == [("blend", "ok", "ok")]
    assert "accuracy" in out and "measured" in err


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
    assert lra.audit("model=linear", "size.dim=16", length=64, points=("order",)).holds


@pytest.fixture(scope="module")
def results() -> lra.results.Results:
    return lra.load(tiny.ROOT / "results")


def test_load_boards_and_figures(results: object, tmp_path: Path) -> None:
    assert {"row", "model", "accuracy", "low", "high"} <= set(results.cells.columns)
    assert len(results.floors) and len(results.points) and len(results.runs) >= 500
    shown = lra.boards(results)
    (first, *_) = shown
    assert first.budget == "quick" and any(line.name == "performer" for line in first.lines)
    for model in ("transformer", "performer"):
        answered.run(tmp_path, model, 0.5)
    assert any(name.startswith("bubble-quick") for name in lra.figures(lra.load(tmp_path)))
    assert ", 0 not shown" in repr(results) and f"{len(results.runs)} records" in repr(results)
    assert "accuracy, %" in repr(shown) and "performer" in repr(shown)


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
