"""What docs/model.md shows is what works: its model, command by command, up to the table and the chart; and what the
README and the docs name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lra.record import store
from tests.help import tiny
from tests.help.told import PAGES

README = (tiny.ROOT / "README.md").read_text()
SECTION = (tiny.ROOT / "docs" / "model.md").read_text().split("## In ten lines")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository with the two files of the tutorial."""
    place = tmp_path_factory.mktemp("elsewhere")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", SECTION, flags=re.S))
    (place / "gate.py").write_text(blocks["python"])
    (place / "mine" / "model").mkdir(parents=True)
    (place / "mine" / "model" / "gate.yaml").write_text(blocks["yaml"])
    # Overrides would make the runs variants, which a chart leaves out; a budget of one's own does not.
    (place / "mine" / "budget").mkdir()
    sizes = OmegaConf.to_yaml(OmegaConf.from_dotlist(["budget=tiny", *tiny.WORDS[1:]]))
    (place / "mine" / "budget" / "tiny.yaml").write_text(f"# @package _global_\n{sizes}")
    return place


def commands() -> list[list[str]]:
    block = re.search(r"```sh\n(.*?)```", SECTION, flags=re.S)[1]
    return [line.split("#")[0].split() for line in block.strip().splitlines()]


def test_ten_lines() -> None:
    code = re.search(r"```python\n(.*?)```", SECTION, flags=re.S)[1]
    assert len([line for line in code.split("class", 1)[1].splitlines() if line.strip()]) <= 10


def test_the_commands_of_the_tutorial(folder: Path) -> None:
    places = [f"results_dir={folder / 'results'}", f"output_dir={folder / 'out'}"]
    runs = ["budget=tiny", f"data_dir={folder / 'data'}", *places]
    for python, flag, module, *words in commands():
        assert (python, flag) == ("python", "-m")
        if module == "lra.check":
            # The growth of the whole audit takes half a minute; it has tests of its own.
            words += ["--only", "padding,batch,gradients,order", *places[1:], "size.dim=32", "size.qkv_dim=32"]
        elif module == "lra":
            words += runs
        else:
            words += places[:1]
        done = tiny.lra(*words, module=module, cwd=folder)
        assert done.returncode == 0, f"{module} {words}\n{done.stdout}\n{done.stderr}"
    found = {(r.model, r.seed, r.status) for _, r in store.find(folder / "results") if r.kind == "model"}
    assert found == {("gate", 0, "ok"), ("transformer", 0, "ok")}
    assert "gate" in (folder / "results" / "leaderboard.md").read_text()
    (chart,) = (folder / "results" / "figures").glob("bubble-*.svg")
    assert "gate" in chart.read_text()


def test_files_and_pictures_that_are_named_are_there() -> None:
    for page in PAGES:
        named = [n for n in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()) if "://" not in n]
        assert [n for n in named if not (page.parent / n).exists()] == [], page


def test_two_screens() -> None:
    assert len(README.splitlines()) <= 120


def test_its_table_is_the_leaderboards() -> None:
    shown = README.split("<!-- table: python -m lra.leaderboard -->")[1].split("<!-- end of table -->")[0]
    rows = [line for line in shown.strip().splitlines() if line.startswith("|")]
    board = (tiny.ROOT / "results" / "leaderboard.md").read_text()
    assert len(rows) > 10 and "\n".join(rows) in board
