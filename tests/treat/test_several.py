"""Several treatments of several parents: each of each, once; what fails is a row, and what cannot be is a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lra.errors import UserError
from lra.record import store
from lra.treat import __main__ as door
from lra.treat import asked, derive
from tests.help import treated

pytestmark = pytest.mark.xdist_group("several")
BITS = ["treatment=fake_quant", "treatment.bits=24,3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """(folder, two parents, one at its floor, one that kept nothing)."""
    folder = tmp_path_factory.mktemp("several")
    few = ["train.steps=1", "train.eval_every=1"]
    more = ([], ["seed=1", "model=linear"], ["model=linear", *few], ["seed=2", *few, "keep=no"])
    return folder, [treated.trained(folder, *words) for words in more]


def derived(folder: Path) -> list[Any]:
    return [r for _, r in store.find(folder / "results") if r.kind == "derived"]


def typed(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> int:
    monkeypatch.setattr(derive, "Treating", treated.Here)
    monkeypatch.setattr("sys.argv", ["lra.treat", *words, *treated.places(folder)])
    return door.main()


def test_each_of_each_once(made: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder, (first, second, flat, _) = made
    words = ["model=transf*,linear", "task=shift", *BITS]
    assert typed(monkeypatch, folder, *words, "--dry-run") == 0 and derived(folder) == []
    said = capsys.readouterr()
    assert said.out.count("would be made: ") == 4 and "left out: " in said.err and flat.run_id in said.err
    assert typed(monkeypatch, folder, *words) == 0
    found = derived(folder)
    assert [(r.parent, r.treatment["settings"]["bits"]) for r in found] == [
        (p.run_id, bits) for p in (first, second) for bits in (24, 3)
    ]
    out = capsys.readouterr().out
    assert "4 made, 0 there already, 0 refused" in out and out.count("fake_quant bits=3") == 2
    again = [f"record={first.run_id},{second.run_id[:16]}*", "treatment=fake_quan?", "treatment.bits=24,3,2"]
    assert typed(monkeypatch, folder, *again) == 0
    assert "2 made, 4 there already" in capsys.readouterr().out and derived(folder)[:4] == found
    one = [f"record={first.run_id}", "treatment=fake_quant", "treatment.bits=3"]
    assert typed(monkeypatch, folder, *one) == 0 and "(there already)" in capsys.readouterr().out
    assert len(derived(folder)) == 6
    assert typed(monkeypatch, folder, *one, "keep=best") == 0 and len(derived(folder)) == 7, (
        "weights that were not kept"
    )
    assert typed(monkeypatch, folder, *one, "rerun=all") == 0 and len(derived(folder)) == 8


def test_a_failure_is_a_row_and_the_rest_goes_on(
    made: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from lra.machine import facts
    from lra.treatments.neurons import Neurons

    folder, (first, second, *_) = made
    monkeypatch.setattr(facts, "commit", lambda: ("0", False))
    monkeypatch.setattr(Neurons, "after", lambda *_: 1 / 0)
    words = ["model=transformer,linear", "treatment=neurons,layers"]
    before = len(derived(folder))
    assert typed(monkeypatch, folder, *words) == 1
    rows = [(r.parent, r.treatment["name"], r.status) for r in derived(folder)[before:]]
    kinds = [("neurons", "failed"), ("layers", "ok")]
    assert rows == [(p.run_id, *kind) for p in (first, second) for kind in kinds]
    assert "4 made, 0 there already" in capsys.readouterr().out
    assert typed(monkeypatch, folder, *words) == 1 and len(derived(folder)) == before + 4, "the same code fails again"
    monkeypatch.setattr(facts, "commit", lambda: ("1", False))
    assert typed(monkeypatch, folder, *words) == 1 and len(derived(folder)) == before + 6


def test_what_cannot_be_begun_is_told_and_the_rest_goes_on(
    made: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder, (first, *_) = made
    plain = derive.derived

    def some(job: Any) -> Any:
        if job.parent.sheet.record.run_id == first.run_id:
            raise UserError("record: was tested on other data")
        return plain(job)

    monkeypatch.setattr(derive, "derived", some)
    before = len(derived(folder))
    assert typed(monkeypatch, folder, "seed=0,1", "task=shift", "treatment=svd") == 1
    said = capsys.readouterr()
    assert "refused: record: was tested on other data" in said.err and "1 made, 0 there already, 1 refused" in said.out
    assert len(derived(folder)) == before + 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["model=linaer", "treatment=svd"], ["model=linaer", "linear, transformer", "Did you mean linear"]),
        (["seed=2", "treatment=svd"], ["seed=2", "keep=best"]),
        (["record=,", "treatment=svd"], ["record", "empty name"]),
        (["record=x*", "treatment=svd"], ["record=x*", "of no record"]),
        (["model=linear", "treatment=z*"], ["treatment: z* leaves none"]),
        (["model=linear", "treatment=svd,heads", "treatment.bits=2"], ["treatment.bits"]),
        (["model=linear", "treatment=svd", "treatment.share=0.5,2"], ["treatment.share", "(0, 1)"]),
        (["model=linear", "treatment=svd", "rerun=maybe"], ["rerun", "failed"]),
    ],
)
def test_bad_words_get_one_line(made: tuple[Path, list[Any]], words: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        asked.jobs([*words, *treated.places(made[0])])
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts), caught.value


def test_a_glob_leaves_out_what_cannot_be_built(made: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    from lra.treatments import int8_dynamic

    def missing() -> Any:
        raise ValueError("treatment.by: torchao is not installed")

    monkeypatch.setattr(int8_dynamic, "_torchao", missing)
    found = asked.jobs(["seed=1", "model=linear", "treatment=i*,h*,n*,p*", *treated.places(made[0])])
    names = [job.option.name for job in found.jobs]
    assert {"identity", "heads"} <= set(names) and not {"int8_dynamic", "pretrain", "none"} & set(names)
    assert any("torchao is not installed" in text for text in found.left)
    with pytest.raises(UserError, match="torchao is not installed"):
        asked.jobs(["seed=1", "model=linear", "treatment=svd,int8_dynamic", *treated.places(made[0])])
