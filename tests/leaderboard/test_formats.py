"""Each format of the leaderboard: fits, escapes, links, is whole."""

from __future__ import annotations

import csv
import html.parser
import io
import re
from pathlib import Path

import pytest

from lra.leaderboard import csv as csv_format
from lra.leaderboard import latex, markdown, page, terminal
from lra.leaderboard.board import Board
from lra.leaderboard.view import boards as boards_of
from lra.record import store
from lra.results import load
from tests.help import answered, made, synthetic


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    synthetic.costs(answered.whole(folder))
    return folder


@pytest.fixture(scope="module")
def boards(whole: Path) -> list[Board]:
    return boards_of(load(whole))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_table_fits(boards: list[Board], width: int) -> None:
    text = terminal.render(boards, width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("transformer_xl", "oom", "diverged", "majority", "3000images", "stand-ins"):
        assert word in text


def test_csv_is_tidy(boards: list[Board]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_format.render(boards))))
    [cell] = [r for r in rows if r["model"] == "sinkhorn" and r["row"] == "image_jpeg-test500"]
    assert cell["standard"] == "no" and 0 < float(cell["low"]) < float(cell["accuracy"]) < float(cell["high"]) < 1
    [lost] = [r for r in rows if r["model"] == "synthesizer" and r["row"] == "retrieval_acl-512"]
    assert (lost["accuracy"], lost["status"], lost["reason"]) == ("", "oom", "needs 20 GiB of 16")
    costs = {(r["model"], r["length"]): r for r in rows if r["kind"] == "cost"}
    assert (
        costs["transformer", "4096"]["relative_speed"] == "1" and float(costs["linear", "4096"]["relative_speed"]) > 3
    )


def test_latex_is_balanced_and_escaped(boards: list[Board]) -> None:
    text = latex.render(boards)
    body = "\n".join(part for part in text.splitlines() if not part.startswith("%"))
    assert body.count("{") == body.count("}") and body.count(r"\begin{") == body.count(r"\end{") == 4
    assert r"transformer\_xl" in body and not re.search(r"(?<!\\)[_%]", body)
    rows = [r for r in body.splitlines() if r.startswith("transformer ")]
    assert rows and all(r.count(" & ") == 8 for r in rows)


class Reader(html.parser.HTMLParser):
    """Tags in order, links, titles; fails on a tag that is not closed."""

    VOID = ("meta", "br", "path", "use", "circle", "image")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_links_to_records_and_fetches_nothing(whole: Path, boards: list[Board]) -> None:
    svg = b'<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg><metadata>x</metadata><path d=""/></svg>'
    text = page.render(boards, {page.chart(boards[0]): svg})
    seen = Reader(text).seen
    links = [a["href"] for tag, a in seen if tag == "a"]
    assert len(links) > 60 and all((whole / link).is_file() for link in links)
    assert not [a for _, a in seen if "src" in a or (a.get("href") or "").startswith(("http", "//"))]
    assert "default-src 'none'" in text and "<svg><path" in text and "<metadata>" not in text
    titles = [a["title"] for tag, a in seen if tag == "td" and "title" in a]
    assert any("95 % interval" in t and "test items" in t and "data of listops-128" in t for t in titles)
    assert any("oom: needs 20 GiB of 16" in t for t in titles)
    assert "<figure" not in page.render(boards, {})


def test_the_page_has_a_table_of_costs_where_there_are_any(tmp_path: Path) -> None:
    """A quarter of the Transformer's time and memory at 4K; the 16K column does not exist, a failure has its word."""
    answered.run(tmp_path, "linear", 0.5, machine={"device": "cpu", "name": "CPU X", "threads": 2})
    answered.run(tmp_path, "local", 0.4, machine={"device": "cpu", "name": "CPU X", "threads": 2})
    title = "A training step relative to the Transformer"
    assert title not in page.render(boards_of(load(tmp_path)), {})
    for model, seconds, peak in (("transformer", 4.0, 400), ("linear", 1.0, 100)):
        store.write(tmp_path, made.point(model, 4096, [seconds], peak=peak))
    store.write(tmp_path, made.example(kind="cost", status="oom", reason="no", task="text", model="local", length=4096,
                batch_size=1, dtype="float32", machine={"device": "cpu", "name": "CPU X", "threads": 2},
                cost={"mode": "fixed"}))  # fmt: skip
    (table,) = re.findall(rf"<table.*?{title}.*?</table>", page.render(boards_of(load(tmp_path)), {}), flags=re.S)[-1:]
    table = table[table.index(title) :]
    assert "text, batch 1, 2 threads" in table and "speed 4K" in table and "speed 16K" not in table
    (linear,) = [row for row in table.split("<tr>") if ">linear<" in row or "linear</" in row]
    assert 'data-value="4"' in linear and 'data-value="0.25"' in linear
    assert [row for row in table.split("<tr>") if "local" in row and "oom" in row]


def test_costs_and_runs_with_several_threads_stand_in_one_table(tmp_path: Path) -> None:
    """A machine is named alike by both: a reader who measures with all his cores finds what he has measured."""
    machine = {"device": "cpu", "name": "CPU X", "threads": 2}
    for model, seconds in (("transformer", 4.0), ("linear", 1.0)):
        answered.run(tmp_path, model, 0.5, machine=machine)
        store.write(tmp_path, made.point(model, 4096, [seconds], machine=machine))
        store.write(tmp_path, made.point(model, 4096, [1.0], machine=machine | {"threads": 1}))
    store.write(tmp_path, made.point("linear", 4096, [0.5], machine=machine | {"memory_kept": True}))
    found = load(tmp_path)
    assert set(found.points.machine) == {"CPU X", "CPU X, 2 threads", "CPU X, 2 threads, memory kept"}
    assert set(found.timed.machine) == {"CPU X, 2 threads"}
    (board,) = boards_of(found)
    assert board.measured == "text, batch 1, 2 threads"
    assert {n.name: n.costs[4096].speed for n in board.lines if n.costs} == {"transformer": 1.0, "linear": 4.0}


def test_text_from_records_cannot_break_a_format(tmp_path: Path) -> None:
    reason = 'a "quoted" <b>& | reason_with % of {everything}'
    answered.run(tmp_path, "transformer", 0.5)
    answered.run(
        tmp_path, "linear", None, "text", reason=reason, machine=answered.MACHINE | {"name": "CPU <1> & | 50%_"}
    )
    answered.run(tmp_path, "linear", None, "text", reason=reason)
    shown = boards_of(load(tmp_path))
    Reader(page.render(shown, {}))
    assert "<b>&" not in page.render(shown, {})
    head = next(part for part in markdown.render(shown).splitlines() if part.startswith("| Model"))
    rows = [part for part in markdown.render(shown).splitlines() if part.startswith("| linear")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == head.count("|") for row in rows[:1])
    rows = csv.DictReader(io.StringIO(csv_format.render(shown)))
    assert reason in {row["reason"] for row in rows}
