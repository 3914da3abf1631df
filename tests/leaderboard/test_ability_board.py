"""The board of abilities in each format: what an exam asks for above it, and "not within" a mark of its own."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from lra.leaderboard import abilities, files, latex, markdown, page, terminal, verify
from lra.leaderboard import csv as csv_format
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.view import boards
from lra.plot import render
from lra.results import load
from tests.help import answered, scored
from tests.leaderboard.test_formats import Reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = scored.board(tmp_path_factory.mktemp("able"), scored.MANY)
    scored.run(folder, "linear", 1.0, variant=["model.mixer.causal=true"], config_hash="1" * 16)
    return folder


@pytest.fixture(scope="module")
def able(folder: Path) -> list[Abilities]:
    return abilities.boards(load(folder))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_shows_it_in_its_width(able: list[Abilities], width: int) -> None:
    text = terminal.render([], width, able)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if line.startswith("transformer ") and "12 of 12" in line]
    assert "3/3" in row and "diverged" in text and "0/1 s 0.9" in text and ">160,000: not learnt within" in text
    assert text.index("[carry]") < text.index("Needle") and "with overrides\nlinear causal=true" in text


def test_markdown_has_what_is_asked_for_above_each_exam(able: list[Abilities]) -> None:
    lines = [line for line in markdown.render([], able).splitlines() if line.startswith("|")]
    asks, _, names, first, *_ = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert dict(zip(names[2:], asks[2:], strict=True))["Recall adjacent"] == "joined lookup"
    assert first[:2] == ["transformer", "12 of 12"] and re.fullmatch(r"3 of 3, 1\.000, \d+,\d00", first[2])
    assert (
        any(re.search(r"\| 0 of 1, 0\.0\d+, >160,000 \|", line) for line in lines) and len({len(asks), len(first)}) == 1
    )


def test_csv_keeps_what_is_censored_apart(able: list[Abilities]) -> None:
    rows = {(r["model"], r["row"]): r for r in csv.DictReader(io.StringIO(csv_format.render([], able)))}
    never, learnt = rows["local", "state"], rows["transformer", "shift"]
    assert (never["learnt_seeds"], never["sequences"], never["core_seconds"]) == ("0", ">160000", "")
    assert float(never["score_low"]) < float(never["score"]) < float(never["score_high"])
    assert (learnt["asks"], learnt["learnt_seeds"], learnt["seeds"]) == ("fixed offset", "3", "3")
    assert float(learnt["rate_low"]) == 0.001 and learnt["rates_below"] == "0.0003 was dropped before the end"
    lost = rows["local", "shift"]
    assert (lost["status"], lost["score"], lost["sequences"], lost["seeds"]) == ("diverged", "", "", "0")
    assert {r["kind"] for r in rows.values()} == {"ability"}


def test_latex_is_balanced(able: list[Abilities]) -> None:
    text = latex.render([], able)
    body = "\n".join(part for part in text.splitlines() if not part.startswith("%"))
    assert body.count("{") == body.count("}") and r"\scriptsize carry" in body
    rows = [r for r in body.splitlines() if r.startswith(("transformer ", "local "))]
    assert len(rows) == 2 and all(r.count(" & ") == 13 for r in rows)
    assert r"\textbf{1.000}" in rows[0] and r"\textgreater{}160k" in rows[1] and r"\textbf" not in rows[1]


def test_the_page_is_whole(folder: Path, able: list[Abilities]) -> None:
    text = page.render([], {}, able)
    seen = Reader(text).seen
    links = [a["href"] for tag, a in seen if tag == "a"]
    seeds = 12 * 3 + 8 * 3  # of cells with several that have a score, a link each beside the first
    assert len(links) == 12 * 3 + 2 + 1 + seeds and all((folder / link).is_file() for link in links)
    cells = [a for tag, a in seen if tag == "td" and a.get("class") == "heat"]
    assert len(cells) == 12 * 3 + 1 + 1 and all(0 <= float(a["style"].removeprefix("--s:")) <= 1 for a in cells)
    (one,) = [a["title"] for a in cells if "row state;" in a["title"] and "s 0.0" in a["title"]]
    assert "95 % interval of the trained model" in one and "floor 12.5, ceiling 100.0" in one
    assert any("learnt at rates from 0.001 to 0.001, below open (0.0003 was dropped" in a["title"] for a in cells)
    assert "<small>carry</small>Needle" in text and "diverged" in text


def test_what_a_reader_must_know_stands_beneath(tmp_path: Path) -> None:
    config = scored.config("shift") | {"revision": {"task": 0, "model": 1}}
    broken = {"broken": {"padding": "moves by 1"}, "blind": 0.25}
    scored.run(tmp_path, "linear", 1.0, config=config, contract=broken)
    (board,) = abilities.boards(load(tmp_path))
    notes = "\n".join(abilities.beneath(board))
    assert "to be made again: linear on Shift (revision 0 of the task, now 1)" in notes
    assert "linear on Shift (padding: moves by 1)" in notes and "linear on Shift (25.0 %)" in notes
    assert "Core-seconds, in the CSV and on the page, are those of Example CPU." in notes


def test_text_of_a_record_cannot_break_it(tmp_path: Path) -> None:
    bad = "a|<b>&_%{x}\\input{y}"
    exam = {"exam": {"of": "shift", "title": bad, "order": 1, "averages": [], "asks": f"{bad} {bad}"}}
    machine = answered.MACHINE | {"name": bad}
    scored.run(tmp_path, "=a <i>", 1.0, config=exam, machine=machine)
    scored.run(tmp_path, "b", None, config=exam, reason=bad)
    shown = abilities.boards(load(tmp_path))
    Reader(page.render([], {}, shown))
    assert "<b>&" not in page.render([], {}, shown)
    body = [line for line in latex.render([], shown).splitlines() if not line.startswith("%")]
    assert not [line for line in body if "\\input" in line]
    tables = [line for line in markdown.render([], shown).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) == 1
    (row, _) = csv.DictReader(io.StringIO(csv_format.render([], shown)))
    assert row["model"] == "'=a <i>" and row["machine"] == bad


def test_check_covers_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of abilities alone: published, then changed by a new record."""
    scored.board(tmp_path, {"linear": {"shift": (1.0,)}})
    found = load(tmp_path)
    figures = render.render(found)
    for name, data in (figures | files.files(boards(found), figures, abilities.boards(found))).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert verify.check(load(tmp_path)) == 0
    scored.run(tmp_path, "local", 0.5, data={"fingerprint": "other"}, machine=answered.MACHINE | {"threads": 2})
    assert verify.check(load(tmp_path)) == 1
    said = capsys.readouterr().out
    assert "leaderboard.md: differs" in said and "figures/abilities-ability-float32-dark.svg: differs" in said
    assert "ability, float32, shift: results on different data" in said


def test_capacity_and_reach_stand_beside_the_exams(tmp_path: Path) -> None:
    """From stored answers over seeds; what the Jacobian lets through behind the bar; null where nothing is known."""
    for seed in range(3):
        scored.capable(tmp_path, "linear", 8.0, seed=seed, state_floats=4224)
        scored.capable(tmp_path, "transformer", 1e4, seed=seed, state_floats=16_384)
    scored.run(tmp_path, "local", 0.1, "recall", config=scored.config("recall"))
    shares = [{"distance": 1 << i, "share": 1.0 if i < 3 else 0.0} for i in range(5)]
    far = {"word": "distance", "starts": (1, 2, 4, 8, 16), "contract": {"broken": {}, "blind": 0.0, "reach": shares}}
    scored.capable(tmp_path, "local", 0.1, "needle", **far)
    shown = abilities.boards(load(tmp_path))
    (board,) = shown
    assert [(c.title, c.asks) for c in board.extents] == [
        ("Needle: reach", "how far back"), ("Recall: capacity", "how many pairs")
    ]  # fmt: skip
    reach, pairs = board.extents
    assert re.fullmatch(r"6(\.\d)? \[[56](\.\d)?, [67](\.\d)?\]", board.text("linear", pairs))
    assert board.text("transformer", pairs) == ">=32" and board.text("local", pairs) == "-"
    assert board.text("local", reach) == "<1 | 6.1" and board.counts("local") == "0 of 2"
    rows = {(r["model"], r["row"]): r for r in csv.DictReader(io.StringIO(csv_format.render([], shown)))}
    one, whole, seen = rows["linear", "recall"], rows["transformer", "recall"], rows["local", "needle"]
    assert one["capacity_of"] == "pairs" and 5 < float(one["capacity_low"]) < float(one["capacity"]) < 8
    assert (whole["capacity"], whole["capacity_high"], whole["state_floats"]) == (">=32", "", "16384")
    assert (seen["capacity"], float(seen["sight"])) == ("<1", pytest.approx(4 * 2**0.6, rel=1e-3))
    assert rows["local", "recall"]["capacity"] == ""
    text = page.render([], {}, shown)
    Reader(text)
    assert "16,384 floats of state" in text and "capacity 6" in text and "by its Jacobian 6.1 tokens back" in text
    for shown_as in (markdown.render([], shown), terminal.render([], 200, shown), latex.render([], shown)):
        assert "reach" in shown_as and "32" in shown_as and "Jacobian" in shown_as


def test_seeds_on_other_items_have_no_capacity_together(tmp_path: Path) -> None:
    scored.capable(tmp_path, "linear", 8.0)
    assert load(tmp_path).abilities.capacity[0].seeds == 1
    scored.capable(tmp_path, "linear", 8.0, seed=1, sequences=200)
    assert load(tmp_path).abilities.capacity[0] is None
