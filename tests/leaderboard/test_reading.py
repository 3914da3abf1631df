"""What a reader chooses on the page, and the conditions that he reads there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lra.leaderboard import files, reading
from lra.leaderboard.view import boards
from lra.results import load
from tests.help import racing, scored

USED = """<script>
const use = (element, change) => { change(element); element.dispatchEvent(new Event("input", {bubbles: true})); };
use(document.querySelector(".choose input"), (e) => { e.value = "former, family:nothing"; });
use(document.querySelector(".choose details input"), (e) => { e.checked = false; });
const number = document.querySelector("table.exams tbody tr:not([hidden]) td[data-value]:not([hidden]) a");
number.dispatchEvent(new FocusEvent("focusin", {bubbles: true}));
const shown = (all) => [...all].filter((e) => !e.hidden).map((e) => e.textContent);
document.title = JSON.stringify([
  shown(document.querySelectorAll("table.exams tbody tr:not([hidden]) th")),
  shown(document.querySelector("table.exams thead tr").cells),
  shown(document.querySelectorAll(".said")).filter(Boolean),
]);
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = scored.board(racing.records(tmp_path_factory.mktemp("read"), models=6), scored.MANY)
    return files.files(boards(load(folder)), {})["leaderboard.html"].decode()


def test_the_page_knows_the_families_of_what_it_shows(page: str) -> None:
    said = json.loads(html.unescape(re.search(r'data-families="([^"]*)"', page)[1]))
    assert said.items() >= {"linear": "kernel", "local": "pattern"}.items() and "hyena" not in said
    assert json.loads(reading.known(["a size.dim=3", "b", "c"], {"a": "x", "c": "y"})) == {"a": "x", "c": "y"}


@pytest.mark.skipif(shutil.which("node") is None, reason="the script is run by node")
def test_models_are_chosen_by_parts_of_their_names_and_families() -> None:
    first = reading.SCRIPT.partition("const titled")[0]
    asked = [["performer", "kernel", ""], ["performer", "kernel", "x, PER"], ["linear", "kernel", "per family:ker"],
             ["s4d", None, "family:kernel"], ["s4d", "state space", "per lin"]]  # fmt: skip
    code = f"{first}console.log(JSON.stringify({json.dumps(asked)}.map((a) => wanted(...a))))"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, True, True, False, False]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="looked at in a browser, where there is one")
def test_a_browser_shows_what_is_chosen_and_says_the_conditions(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page.replace("</body>", USED))
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, check=True)
    assert "CONSOLE" not in done.stderr
    names, heads, said = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1]))
    assert names and all("former" in name or name.startswith("floor") for name in names)
    assert not any(head.startswith("ListOps") for head in heads) and len(heads) > 1
    (line,) = said
    assert "row " in line and "budget race" in line
