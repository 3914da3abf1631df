"""A table for a paper: who is bold, what its caption says, settings and methods from the records, and that it sets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lra.errors import UserError
from lra.leaderboard import __main__ as door
from lra.leaderboard import files, latex, page, paper, verify
from lra.leaderboard.paper import Paper
from lra.leaderboard.view import boards
from lra.results import load
from tests.help import answered, tiny

SIZES = {"size": {"depth": 2, "dim": 64}, "train": {"schedule": "cosine", "learning_rate": 0.002}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best, one told apart from it, one that is not but is behind, and one equal to it."""
    folder = tmp_path_factory.mktemp("paper")
    for row in ("listops", "text-512-test1000"):
        for model, accuracy in (
            ("transformer", 0.6),
            ("performer", 0.2),
            ("transformer_xl", 0.58),
            ("nystromformer", 0.6),
        ):
            config = {**SIZES, "size": {"depth": 2, "dim": 32 if model == "performer" else 64}}
            made = answered.run(folder, model, accuracy, row, config=config, steps_budget=300, batch_size=32)
            assert made.status == "ok"
        answered.floor(folder, "majority", 0.1, row)
        answered.floor(folder, "depth_2", 0.9, row, local=False)
    answered.run(folder, "linear", None, "listops")
    return folder


def bold(text: str) -> set[str]:
    return {line.split(" & ")[0].split(" (")[0] for line in text.splitlines() if r"\textbf" in line and " & " in line}


def test_bold_is_the_best_and_what_equals_it(folder: Path) -> None:
    [board] = boards(load(folder))
    marks = {line.name: line.mark("listops") for line in board.of("model")}
    most = max(m.accuracy for m in marks.values() if m.accuracy is not None)
    expected = {
        n for n, m in marks.items() if m.accuracy is not None and round(100 * m.accuracy, 1) == round(100 * most, 1)
    }
    assert {n for n, m in marks.items() if m.best} == expected and "performer" not in expected
    behind = marks["transformer_xl"]
    assert behind.rank[0] == 1 and behind.best == ("transformer_xl" in expected)
    assert bold(latex.render([board])) == {n.replace("_", r"\_") for n in expected}
    assert page.render([board], {}).count("<b>") == sum(m.best for line in board.lines for m in line.marks.values())


def test_the_table_says_what_it_is_of(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "table.tex"
    words = ["model=trans*,nyst*,performer,linear", "width=column", "ours=nystrom*", "label=tab:mine"]
    monkeypatch.setattr(sys, "argv", ["lra", f"results_dir={folder}", *words, f"out={out}"])
    assert door.main() == 0
    text = out.read_text()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"Nyströmformer (ours) & " in body and "Transformer-XL" in body and r"\_" not in body
    assert body.count(r"\begin{table}") == 2 and r"\label{tab:mine}" in body and r"\label{tab:mine-settings}" in body
    assert "oom" in body or "diverged" in body
    assert "Best local rule & 10.0" in body and "90.0" not in body
    for said in ("budget quick, float32", "mean of 1 seed", "of the one trained model", "all pairs of 5 models"):
        assert said in body, said
    assert "width & 32--64 & 32--64" in body and "layers & 2 & 2" in body and "learning rate & 0.002" in body
    assert "5 models (" in body and "Runs were made on Example CPU." in body and "all pairs of the 5 models" in body
    assert files.carried(out) == words
    assert not any(verify.of_choices(load(folder), tmp_path)[out])
    out.write_text(text.replace("60.", "61.", 1))
    assert any(verify.of_choices(load(folder), tmp_path)[out])


def test_a_page_has_room_for_intervals(folder: Path) -> None:
    found = load(folder)
    text = files.paper(found, boards(found), Paper("page"))["paper.tex"].decode()
    assert r"\begin{table*}" in text and r"$\pm$" in text and "(ours)" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["width=wide", "out=x.tex"], "width: 'wide' is not one of column, page"),
        (["label=a{b", "out=x.tex"], "label: 'a{b' is no label"),
        (["width=page"], "say where it goes, as out=table.tex"),
        (["ours=other", "out=x.tex"], "ours: other is not in the table; there is linear"),
    ],
)
def test_bad_words_get_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lra", f"results_dir={folder}", *words])
    with pytest.raises(UserError, match=re.escape(said)):
        door.main()


def test_words_are_those_that_are_typed() -> None:
    asked = Paper("column", ("mine", "other*"), "tab:x")
    assert paper.asked([*asked.words, "model=a"]) == (asked, ["model=a"]) and paper.asked(["model=a"])[0] is None


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not here")
@pytest.mark.parametrize("width", ["column", pytest.param("page", marks=pytest.mark.slow)])
def test_it_sets_and_fits(tmp_path: Path, width: str) -> None:
    """All that is on record here: seven columns with long headings."""
    found = load(tiny.ROOT / "results")
    text = files.paper(found, boards(found), Paper(width, ("performer",)))["paper.tex"]
    (tmp_path / "paper.tex").write_bytes(text)
    head = r"\documentclass[twocolumn]{article}\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}"
    head += r"\usepackage{booktabs,graphicx}"
    (tmp_path / "whole.tex").write_text(head + r"\begin{document}\input{paper.tex}\end{document}" + "\n")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "whole.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    tables = [n for n, line in enumerate(text.decode().splitlines(), 1) if "tabular" in line]
    wide = [list(map(int, at)) for at in re.findall(r"Overfull.*at lines (\d+)--(\d+)", done.stdout)]
    assert [span for span in wide if any(span[0] <= n <= span[1] for n in tables)] == []
