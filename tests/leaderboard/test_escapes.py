"""Text from records stays text in every format: each is parsed, and what is read is what was in the record."""

from __future__ import annotations

import csv
import html
import io
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from lra.leaderboard import csv as csv_format
from lra.leaderboard import latex, markdown, page, terminal
from lra.leaderboard.board import Board
from lra.leaderboard.view import boards
from lra.results import load
from tests.help import answered, tiny
from tests.leaderboard.test_formats import Reader

NAMES = ["=1+1", "@sum", "+x", "[a](http:b)", "![i](http:z)", "`c`", "*b*", "_e_", "s ~~t~~", "#h", "1. a", "$x$",
         "a&lt;b", "<script>", "input{x}", "^^M", "%c", "{", "a|b", "www.example.org", "x@y.org", '"q"',
         "it's"]  # fmt: skip
REASON = "ends\r\n\\input{/etc/passwd}\n% here \x1b]0;title\x07 \x9b2J \u202e and\u2028there <b>http://z</b> [x](y)"
MACHINE = answered.MACHINE | {"name": "[CPU](http:c) | *50*%_ = <1> \\input{y}"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Board]:
    folder = tmp_path_factory.mktemp("escapes")
    for name in NAMES:
        answered.run(folder, name, 0.5, machine=MACHINE, stored=False)
    answered.run(folder, "transformer", None, "text", reason=REASON, machine=MACHINE)
    answered.run(folder, "linear", None, "text", reason="=cmd|' /C calc'!A0", machine=MACHINE)
    return boards(load(folder))


def unseen(text: str) -> list[str]:
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)


def test_nothing_unseen_in_any_format(shown: list[Board]) -> None:
    for text in (terminal.render(shown, 100), csv_format.render(shown), latex.render(shown), page.render(shown, {})):
        assert not unseen(text)
    assert not unseen(markdown.render(shown))


def test_a_spreadsheet_sees_no_formula(shown: list[Board]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_format.render(shown))))
    assert len(rows) == len(NAMES) + 2
    assert not [v for row in rows for v in row.values() if v[:1] in ("=", "+", "@", "\t", "\r")]
    assert {row["model"].removeprefix("'") for row in rows} == {*NAMES, "transformer", "linear"}
    assert {row["machine"] for row in rows} == {MACHINE["name"]}


def test_latex_has_no_command_of_a_record(shown: list[Board]) -> None:
    text = latex.render(shown)
    commented = [part for part in text.splitlines() if part.startswith("%")]
    assert any("input{/etc/passwd}" in part for part in commented), "the reason is a comment, whole"
    body = "\n".join(part for part in text.splitlines() if not part.startswith("%"))
    ours = {"begin", "end", "centering", "small", "toprule", "midrule", "bottomrule", "caption", "shortstack"}
    ours |= {"scriptsize", "pm", "textbf", "dagger", "dots", "textbackslash", "textasciitilde", "textasciicircum"}
    assert set(re.findall(r"\\([A-Za-z]+)", body)) <= ours | {"textless", "textgreater"}
    plain = re.sub(r"\\.", "", body.replace(r"\\", ""))
    assert plain.count("{") == plain.count("}") and not re.search(
        "[%&#_^~]", plain.replace(" & ", "").replace("$^", "")
    )
    assert not re.search(r"\\\\\n[\[*]", body), "what follows the end of a row is no option of it"
    assert all(ord(c) < latex.KNOWN for c in body)


def test_a_page_has_no_tag_of_a_record(shown: list[Board]) -> None:
    text = page.render(shown, {})
    seen = Reader(text).seen
    assert {tag for tag, _ in seen} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "code", "section", "div", "table"),
        *("thead", "tbody", "tr", "th", "td", "button", "small", "a", "b", "br", "ul", "li", "script"),
    }
    assert len([tag for tag, _ in seen if tag == "script"]) == 1
    names = {html.unescape(found) for found in re.findall(r'<th scope="row">(.*?)</th>', text)}
    assert names == {*NAMES, "transformer", "linear"}
    assert all(a["href"].startswith("runs/") and ":" not in a["href"] for tag, a in seen if tag == "a")


def test_markdown_keeps_its_columns(shown: list[Board]) -> None:
    lines = markdown.render(shown).splitlines()
    tables = [part for part in lines if part.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", part)) for part in tables}
    assert len(counts) <= 2, "a cell ends where none should"
    assert not [part for part in lines if re.search(r"(?<!\\)[\[\]*$]|<|://", part)]


def test_markdown_is_read_as_text(shown: list[Board]) -> None:
    made = MarkdownIt("gfm-like").render(markdown.render(shown))
    assert set(re.findall(r"<(\w+)", made)) <= {"h1", "h2", "p", "code", "table", "thead", "tbody", "tr", "th", "td",
                                               "ul", "li"}  # fmt: skip
    names = {html.unescape(n) for n in re.findall(r"<tr>\n<td>(.*?)</td>", made)}
    assert names == {*NAMES, "transformer", "linear"}


def test_a_terminal_obeys_nothing(shown: list[Board]) -> None:
    text = terminal.render(shown, 80)
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 80


@pytest.mark.slow
def test_what_is_published_here_is_what_its_records_give() -> None:
    done = tiny.lra(
        f"results_dir={tiny.ROOT / 'results'}", "--check", module="lra.leaderboard", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0, done.stderr


def test_a_terminal_that_knows_no_dagger_gets_a_replacement(tmp_path: Path) -> None:
    broken = {"broken": {"padding": "moves by 1"}, "blind": 0.0}
    answered.run(tmp_path, "linear", 0.5, contract=broken)
    assert "‡" in terminal.render(boards(load(tmp_path)), 100)
    done = tiny.lra(f"results_dir={tmp_path}", module="lra.leaderboard", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii() and "linear" in done.stdout, done.stderr
    done = tiny.lra("list", module="lra.data", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii(), done.stderr
