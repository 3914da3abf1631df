"""The tool that makes faults: what it changes, spares and draws, and that it tells caught from survived."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.help.tiny import ROOT

pytest.importorskip("cosmic_ray", reason="no cosmic-ray: pip install -e '.[mutation]'")
pytest.importorskip("coverage", reason="no coverage: pip install -e '.[mutation]'")

from tests.mutate import cover, trial
from tests.mutate.operators import differs
from tests.mutate.sample import drawn, sources, weighty
from tests.mutate.sites import described, sites
from tests.mutate.tree import Tree, worked


def mutants(source: str) -> dict[str, set[str]]:
    """family -> what the last line becomes, of every way at every site."""
    out: dict[str, set[str]] = {}
    for site in sites("a.py", source):
        for way in site.ways:
            if differs(source, text := way()):
                out.setdefault(site.family, set()).add(text.splitlines()[-1].strip())
    return out


LINES = {
    "x = a < b": {"comparison": {"x = a <= b", "x = a > b", "x = a >= b", "x = a == b", "x = a != b"}},
    "x = a is b": {"comparison": {"x = a is not b"}},
    "x = a not in b": {"membership": {"x = a in b"}},
    "x = a | b": {"binary operator": {"x = a & b", "x = a ^ b", "x = a << b", "x = a >> b"}},
    "x = -a": {"unary operator": {"x = +a", "x = ~a", "x = a", "x = not a"}},
    "x = True": {"boolean": {"x = False"}},
    "x = 3": {"constant": {"x = 4", "x = 2"}},
    "x = a and b": {"and or": {"x = a or b"}},
    "x = min(a, b)": {"opposite": {"x = max(a, b)"}, "swapped arguments": {"x = min(b, a)"}},
    "x = a.f(b=b)": {"dropped call": {"x = a"}},
    "x = f(a)": {"dropped call": {"x = (a)"}},
    "f(a=a)": {"dropped call": {"pass"}},
    "x = a[:n]": {"bound one off": {"x = a[:(n) + 1]", "x = a[:(n) - 1]"}},
    "x = a if b else c": {"not": {"x = a if not b else c"}},
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_becomes(line: str) -> None:
    assert mutants(line + "\n") == LINES[line]


def test_what_is_no_behaviour_is_spared() -> None:
    source = '''
"""One of 2, and 3 - 1."""
from typing import TYPE_CHECKING
import torch
if TYPE_CHECKING:
    x = 1 + 2
__all__ = ["f"][:1]
def f(a: "int | None") -> dict[str, int | None]:
    """At most 3."""
    y: int | None = torch.zeros(a=a)
    print(1 + 2)
    assert 1 < 2
    return y
if __name__ == "__main__":
    f
'''
    assert mutants(source) == {}


def test_an_edit_elsewhere_draws_the_same() -> None:
    files = {file: (ROOT / file).read_text() for file in ("lra/marks/skill.py", "lra/marks/means.py")}
    before = drawn(files, 8, seed=3)
    assert [m.id for m in drawn(files, 8, seed=3)] == [m.id for m in before]
    assert {m.id for m in drawn(files, 8, seed=4)} != {m.id for m in before}
    shifted = {
        file: text.replace("import annotations\n", "import annotations\n\n\n", 1) for file, text in files.items()
    }
    after = drawn(shifted, 8, seed=3)
    assert [m.key for m in after] == [m.key for m in before]
    assert [m.line for m in after] == [m.line + 2 for m in before]


def test_three_of_ten_lie_where_a_table_would_be_wrong() -> None:
    light = "\n".join(f"x{i} = {i}" for i in range(200))
    texts = {"lra/console.py": light, "lra/marks/ranks.py": "y = a + b\nz = a - b\nw = a * b\n"}
    assert sorted(m.file for m in drawn(texts, 10, seed=0) if weighty(m.file)) == ["lra/marks/ranks.py"] * 3


def test_what_the_weighty_places_name_is_there() -> None:
    found = {weighty(file) for file in sources(ROOT)}
    assert {"statistics", "masks", "splits", "schedules", "choice of checkpoint", "records", "table claims"} <= found


TOY = """
LIMIT = 3


def below(n):
    return n < LIMIT


def spin(n):
    while n > 0:
        n -= 1
    return n


def unseen(n):
    return n
"""
TOYS_TESTS = """
import os, subprocess, sys, pytest
from lra.marks.toy import below, spin

@pytest.fixture(scope="module")
def spun():
    return spin(2)

def test_below():
    assert below(1) and not below(5)

def test_spin(spun):
    assert spun == 0

def test_spun(spun):
    pass

def test_elsewhere():
    subprocess.run([sys.executable, "-c", "from lra.marks.toy import unseen; unseen(1)"], check=True)
    if "MUTATE_DATA" in os.environ:  # what a process leaves that is killed as it writes
        with open(os.environ["MUTATE_DATA"] + ".killed", "w") as half:
            half.write("SQLi")

def test_wrong():
    assert below(7)
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, dict]:
    root = tmp_path_factory.mktemp("toy") / "root"
    for name, text in {
        "lra/__init__.py": "",  # or what is installed would be found before it
        "lra/marks/__init__.py": "",
        "lra/marks/toy.py": TOY,
        "tests/marks/test_toy.py": TOYS_TESTS,
        "pytest.ini": "[pytest]\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copytree(ROOT / "tests" / "mutate", root / "tests" / "mutate")
    tree = Tree(root, root.parent / "tree", imports=())
    yield tree, cover.measured(tree, root.parent / "cover", lambda text: None, cover.test_files(root))
    tree.stop()


def test_it_is_known_which_tests_reach_a_line(toy: tuple[Tree, dict]) -> None:
    _, found = toy

    def names(what: str) -> set[str]:
        line = TOY.splitlines().index(what) + 1
        return {name.split("::")[1] for name in cover.reaching(found, "lra/marks/toy.py", TOY, line)}

    everything = {"test_below", "test_spin", "test_spun", "test_elsewhere"}
    assert names("    return n < LIMIT") == {"test_below"}, "one that fails without a fault tells nothing"
    assert names("    while n > 0:") == everything, "what a fixture of the file does is done for all of its tests"
    assert names("LIMIT = 3") == everything, "what runs at import is reached by all"
    assert "test_elsewhere" in cover.reaching(found, "lra/marks/toy.py", TOY, 17).popitem()[0], "another process"


CHANGES = {
    "caught": ("return n < LIMIT", "return n >= LIMIT"),
    "survived": ("return n < LIMIT", "return n <= LIMIT"),
    "timeout": ("n -= 1", "n -= 0"),
}


@pytest.mark.parametrize("status", CHANGES)
def test_a_verdict(status: str, toy: tuple[Tree, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    tree, found = toy
    monkeypatch.setattr(trial, "SLACK", 6.0)
    was, becomes = CHANGES[status]
    site = next(s for s in sites("lra/marks/toy.py", TOY) if was in s.text)
    mutant = described(site, TOY, TOY.replace(was, becomes))
    record = trial.verdict(tree, mutant, found)
    assert (record["status"], record["was"], record["becomes"]) == (status, was, becomes)
    assert (tree.path / "lra/marks/toy.py").read_text() == TOY
    assert trial.valid(record, mutant, tree.path, found)
    more = {**found, "tests/test_new.py": {"seconds": {"tests/test_new.py::test_a": 0.1}, "lines": {}}}
    more["tests/test_new.py"]["lines"] = {"lra/marks/toy.py": {"tests/test_new.py::test_a": list(range(1, 18))}}
    assert trial.valid(record, mutant, tree.path, more) == (status != "survived"), "it has not met the new test"


def test_a_busy_machine_catches_nothing(toy: tuple[Tree, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that the test oversteps without the mutant too."""
    tree, found = toy
    monkeypatch.setattr(trial, "SLACK", 0.0)
    monkeypatch.setattr(trial, "TIMES", 1e-9)
    site = next(s for s in sites("lra/marks/toy.py", TOY) if "return n < LIMIT" in s.text)
    mutant = described(site, TOY, TOY.replace("n < LIMIT", "n <= LIMIT"))
    record = trial.verdict(tree, mutant, found)
    assert record["status"] == "unsure" and not trial.valid(record, mutant, tree.path, found)
    assert not trial.summary([record], {})[1]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="who dies with whom is told by /proc alone")
def test_a_run_that_is_killed_leaves_no_endless_loop_behind(toy: tuple[Tree, dict]) -> None:
    tree, _ = toy
    with tree.holding("lra/marks/toy.py", TOY.replace("n -= 1", "n -= 0")):
        events = tree.ask({"kind": "try", "tests": ["tests/marks/test_toy.py::test_spin"]}, lambda event: 60.0)
        pid = next(event["pid"] for event in events if "pid" in event)
        next(events)
        tree.stop()
        for _ in range(600):
            if worked(pid) == 0:
                break
            time.sleep(0.1)
        assert worked(pid) == 0, "its session is still there"


def test_nine_of_ten_are_wanted_and_an_argued_one_counts_neither_way(tmp_path: Path) -> None:
    def record(i: int, status: str) -> dict:
        return {"file": "a.py", "line": i, "operator": "not", "was": f"{i}", "becomes": "", "status": status,
                "tests": 1, "diff": "--- a\n+++ a\n@@ 1\n-1\n+2"}  # fmt: skip

    records = [record(i, "caught" if i else "survived") for i in range(9)]
    text, enough = trial.summary(records, {})
    assert not enough and "8 caught, 0 argued equivalent, 1 survive; 88.9 % caught" in text and "a.py:0 not" in text
    row = {"file": "a.py", "operator": "not", "was": "0", "becomes": "", "why": "0 is never reached"}
    (tmp_path / "why.json").write_text(json.dumps([row]))
    text, enough = trial.summary(records, trial.argued(tmp_path / "why.json"))
    assert enough and "8 caught, 1 argued equivalent, 0 survive" in text


def test_what_is_argued_is_argued_in_a_sentence_about_a_line_that_stands() -> None:
    for (file, operator, was, becomes), why in trial.argued(ROOT / "tests" / "mutate" / "equivalent.json").items():
        lines = [line.strip() for line in (ROOT / file).read_text().splitlines()]
        assert was in lines, f"{file} has no line {was!r} any more"
        assert operator and was != becomes and len(why.split()) > 4
