"""The chart of the page whose axes are picked: its numbers, and what its script makes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lra.leaderboard import files, pick
from lra.leaderboard.view import boards
from lra.marks.front import pareto
from lra.results import load
from tests.help import racing, scored

# As much of a browser as the script asks for; what is drawn comes back as tags, attributes and texts.
BROWSER = """
const made = (tag) => ({tag, attributes: {}, children: [], dataset: {}, heard: [],
  setAttribute(name, value) { this.attributes[name] = String(value); },
  append(...more) { this.children.push(...more); },
  replaceChildren() { this.children = []; },
  addEventListener(_, what) { this.heard.push(what); }});
const [text, values] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const box = made("div");
box.dataset.points = text;
global.document = {querySelectorAll: () => [box], createElement: made, createElementNS: (_, tag) => made(tag)};
global.window = {addEventListener() {}};
SCRIPT
const selects = box.children.filter((c) => c.tag === "label").map((c) => c.children[0]);
selects.forEach((select, i) => { select.value = values[i]; });
selects[0].heard[0]();
const plain = (e) => ({tag: e.tag, text: e.textContent, ...e.attributes, children: e.children.map(plain)});
console.log(JSON.stringify(plain(box)));
"""


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored.board(racing.records(tmp_path_factory.mktemp("picked"), models=6), scored.MANY)


def test_the_page_has_the_numbers_of_every_axis(raced: Path) -> None:
    (board,) = boards(load(raced))
    assert {p["model"] for p in board.points} == {line.name for line in board.of("model")}
    first = next(p for p in board.points if p["model"] == "transformer")
    line = next(line for line in board.lines if line.name == "transformer")
    marks = [line.mark(key) for key in ("listops", "image_jpeg")]
    assert first["accuracy"] == pytest.approx(100 * np.mean([m.accuracy for m in marks]), rel=1e-5)
    assert first["skill"] == pytest.approx(np.mean([m.skill for m in marks]), rel=1e-5)
    assert first["step_peak_bytes"] == pytest.approx(marks[0].step_peak_bytes, rel=1e-5)
    said = json.loads(pick.data(board.points, "core"))
    assert [a["column"] for a in said["axes"]["x"]] == ["relative_speed", "core_seconds"]  # no batch: no FLOPs of one
    assert said["axes"]["y"][0]["words"] == "test accuracy, %, mean over 2 tasks (stand-ins)"
    assert "state_floats" not in [a["column"] for a in said["axes"]["area"]]
    assert said["axes"]["x"][1]["words"] == "core-seconds of training to the best local floor"
    page = files.files([board], {})["leaderboard.html"].decode()
    assert page.count('class="pick"') == 1 and page.count("<script>") == 1
    assert pick.data(board.points[:1], "core") == "" == pick.data([], "core")


@pytest.mark.skipif(shutil.which("node") is None, reason="the script is run by node")
@pytest.mark.parametrize("x", [0, 1])
def test_the_script_draws_every_model_and_the_front(raced: Path, x: int) -> None:
    (board,) = boards(load(raced))
    points = [*board.points, {**board.points[0], "model": "<b>worse", "accuracy": 1.0, "core_seconds": None}]
    text = pick.data(points, "core")
    axes = json.loads(text)["axes"]
    done = subprocess.run(
        ["node", "-e", BROWSER.replace("SCRIPT", pick.SCRIPT)], input=json.dumps([text, [x, 0, 1]]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    svg = json.loads(done.stdout)["children"][-1]
    names = (axes["x"][x]["column"], axes["y"][0]["column"], axes["area"][1]["column"])
    known = [p for p in points if all(p[name] is not None for name in names)]
    dots = [c for c in svg["children"] if c["tag"] == "circle"]
    assert len(dots) == len(known) == (7 if x == 0 else sum(p["core_seconds"] is not None for p in points))
    areas = sorted(p[names[2]] for p in known)
    np.testing.assert_allclose(sorted(float(d["r"]) ** 2 for d in dots), 16**2 * np.array(areas) / areas[-1], rtol=1e-6)
    (line,) = (c for c in svg["children"] if c["tag"] == "polyline")
    corners = [tuple(map(float, corner.split(","))) for corner in line["points"].split()]
    front = pareto(np.array([axes["x"][x]["better"] * p[names[0]] for p in known]), [p[names[1]] for p in known])
    middles = {(float(d["cx"]), float(d["cy"])) for d in dots}
    assert len(corners) == 2 * len(front) - 1 and set(corners[::2]) <= middles
    texts = [c["text"] for c in svg["children"] if c["tag"] == "text"]
    assert {p["model"] for p in known} <= set(texts) and not any(c["tag"] == "b" for c in svg["children"])
