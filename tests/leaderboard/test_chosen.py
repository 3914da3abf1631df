"""A part of the boards: no mark of what stays moves, and --check makes it again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lra.errors import UserError
from lra.leaderboard import __main__ as door
from lra.leaderboard import abilities, csv, files, latex, markdown, page, terminal, verify
from lra.leaderboard.view import boards
from lra.marks.query import called
from lra.plot import __main__ as plot
from lra.plot import render, style
from lra.plot.render import drawn_of, figures
from lra.results import Results, load
from tests.help import answered, scored, synthetic

Run = Callable[..., int]
pytestmark = pytest.mark.xdist_group("chosen")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chosen")
    synthetic.costs(answered.whole(folder), models=3, longest=2048)
    return scored.board(folder, {"linear": {"shift": (1.0,), "state": (0.2,)}, "local": {"shift": (0.5,)}})


@pytest.fixture(scope="module")
def found(folder: Path) -> Results:
    return load(folder)


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(main: Callable[[], int], *words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["lra", f"results_dir={folder}", *words])
        return main()

    return call


def test_leaving_models_out_changes_no_mark(found: Results) -> None:
    """The comparisons behind a rank are those of the whole board: of two models alone each would be told apart."""
    [whole], [part] = boards(found), boards(found.select(model="linear,trans*", task="listops,text,image*"))
    assert [line.name for line in part.of("model")] == ["linear", *[n for n in names(whole) if n.startswith("trans")]]
    for line in part.of("model"):
        [same] = [other for other in whole.of("model") if other.name == line.name]
        assert line.marks and all(mark == same.marks[key] for key, mark in line.marks.items())
    assert part.compared == whole.compared == len(whole.of("model")) > len(part.of("model"))
    text = markdown.render([part])
    assert f"those among all {whole.compared} models" in text and "task=listops,text,image*".replace("*", r"\*") in text
    kept = {c.key for c in part.columns}
    assert {c.resolution for c in part.columns} <= {c.resolution for c in whole.columns} and "avg5" not in kept
    assert all(set(line.marks) <= kept for line in part.lines), "what is left out stands in no file"


def names(board: object) -> list[str]:
    return [line.name for line in board.of("model")]  # type: ignore[attr-defined]


def test_columns_and_order(found: Results) -> None:
    [part] = boards(found.select(columns="avg5,text*,parameters", sort="name"))
    assert part.columns[0].key == "avg5" and all(c.key[:4] in ("avg5", "text") for c in part.columns)
    assert names(part) == sorted(names(part)) and part.measured is None
    assert "Speed and memory" not in markdown.render([part])
    [part] = boards(found.select(sort="text"))
    [key] = [c.key for c in part.columns if c.key.startswith("text")]
    values = [line.mark(key).accuracy for line in part.of("model") if line.mark(key).accuracy is not None]
    assert values == sorted(values, reverse=True)
    for wrong in ({"columns": "txt"}, {"sort": "txt"}):
        with pytest.raises(UserError, match="txt is no column; there is "):
            boards(found.select(**wrong))
    [able] = abilities.boards(found.select(model="local,linear", columns="shift"))
    assert able.models == ("local", "linear") and [c.key for c in able.columns] == ["shift"]


def test_every_file_carries_its_choice_and_is_made_again(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "DPI", 30)  # made again the same at any, and sooner
    words = ["model=trans*,linear", "task=listops,text,shift"]
    assert run(door.main, *words, f"out={tmp_path}") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(files.NAMES)
    assert all(files.carried(tmp_path / name) == words for name in files.NAMES)
    assert run(door.main, *words, f"out={tmp_path / 'table.tex'}") == 0
    assert run(plot.main, "model=linear,transformer", "task=listops", f"out={tmp_path}") == 0
    found = load(folder)
    svg = next(tmp_path.glob("bubble*.svg"))
    for name, end in (("leaderboard.md", "\n"), (svg.name, "<!-- -->\n")):
        path = tmp_path / name
        path.write_text(path.read_text() + end)
    chosen = verify.of_choices(found, tmp_path)
    assert {p.suffix for p in chosen} == {".md", ".csv", ".tex", ".html", ".png", ".svg"} and len(chosen) == 9
    wrong = {path.name: lines for path, lines in chosen.items() if lines}
    assert wrong.keys() == {"leaderboard.md", svg.name} and all("differs from" in line for [line] in wrong.values())


def test_a_choice_replaces_nothing_of_the_whole(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "figures", lambda *_: iter(()))  # which are no files of a leaderboard
    before = {p: p.read_bytes() for p in folder.glob("*.*")}
    assert run(door.main, "model=linear") == 0
    assert "written nowhere" in capsys.readouterr().out and {p: p.read_bytes() for p in folder.glob("*.*")} == before
    assert run(door.main, "model=linear", f"out={folder / 'part'}", "--dry-run") == 0
    assert "4 new" in capsys.readouterr().out and not (folder / "part").exists()
    with pytest.raises(UserError, match="out: .* allowed: a folder, or a file that ends in .md"):
        run(door.main, "model=linear", "out=x.doc")
    with pytest.raises(UserError, match="results_dir=A,B…, model=…"):
        run(door.main, "modle=linear")


def test_nothing_chosen_is_nothing_said(found: Results) -> None:
    shown = boards(found)
    assert found.select() is found and found.whole is found
    assert csv.render(shown).splitlines()[0].endswith(",timed")
    assert "Chosen to be shown" not in "".join((markdown.render(shown), latex.render(shown), page.render(shown, {})))


def test_variants_are_told_apart_ranked_and_drawn_where_asked(tmp_path: Path) -> None:
    answered.run(tmp_path, "transformer", 0.5)
    answered.run(tmp_path, "performer", 0.5)
    for n in (64, 128, 256):
        word = [f"model.mixer.features={n}"]
        answered.run(tmp_path, "performer", 0.5 + n / 1000, variant=word, config_hash=f"{n:016x}")
    found = load(tmp_path)
    [plain], [asked] = boards(found), boards(found.select(variant="features=*", model="performer"))
    titles = [f"performer features={n}" for n in (256, 128, 64)]
    assert [line.title for line in plain.of("variant")] == [line.title for line in asked.of("variant")] == titles
    assert all(line.mark("listops").rank is None for line in plain.of("variant")) and plain.compared == 2
    ranks = {line.title: line.mark("listops").rank for line in asked.lines}
    assert asked.compared == 5 and ranks["performer features=256"][0] == 1 and max(r[1] for r in ranks.values()) == 5
    [few] = boards(found.select(variant="features=64", model="performer"))  # of the same family
    assert few.of("variant")[0].mark("listops") == asked.of("variant")[-1].mark("listops")
    text = terminal.render([asked], 80)
    assert all(title in text for title in titles) and "runs with overrides among them" in " ".join(text.split())
    names = drawn_of(found.select(variant="*")).model
    assert len(names) == 5 and len(drawn_of(found)) == 2
    [figure] = [f for n, f in figures(found.select(variant="*"), ("accuracy",)) if n.startswith("accuracy")]
    assert {*titles} <= {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}


def test_names_say_what_differs() -> None:
    names = ["a", "a model.mixer.dim=8 seed=1", "a model.x=1", "a size.x=1", "b ~model.y"]
    assert list(called(names).values()) == ["a", "a dim=8 seed=1", "a model.x=1", "a size.x=1", "b y"]


def test_in_an_order_of_ones_own_kinds_stand_among_one_another() -> None:
    rows = [["x", "1"], ["y", "2"], ["z", "3"]]
    mixed = terminal._table("", ["a"], rows, ["variant", "model", "variant"], 80)
    assert [line[:1] for line in mixed[2:]] == ["x", "y", "z"]
    apart = terminal._table("", ["a"], rows, ["model", "model", "variant"], 80)
    assert [line[:1] for line in apart[2:]] == ["x", "y", "w", "z"]
