"""Every command that the README and the docs show is one that works: what takes minutes is asked what it would do, what
reads records is executed on some."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import lra
from lra import tune
from lra.__main__ import verbs
from lra.check.card import points
from lra.list import GROUPS
from lra.plot import render
from lra.repeat.asked import of as repeated
from lra.root import CONFIGS
from lra.search.asked import asked as search
from lra.settings import compose
from lra.settings.words import choices, split
from lra.sweep.dry import of_run
from lra.treat.asked import keyed
from tests.help.tiny import ROOT
from tests.help.told import PAGES, Command, commands, written

# Doors that read files and records alone.
ROOMS = ("lra.leaderboard", "lra.plot", "lra.cost", "lra.ledger", "lra.sweep", "lra.record", "lra.list", "lra.cite")
SHELL = (
    "python3 -m venv .venv",
    "source .venv/bin/activate",
    ".venv/bin/python -m pytest -n auto",
    "source <(python -m lra.complete bash)",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader of the docs has typed all that they show so far: files of his own, and three results folders."""
    folder = tmp_path_factory.mktemp("typed")
    for page in ("docs/model.md", "docs/task.md", "docs/budget.md", "docs/treatment.md", "CONTRIBUTING.md"):
        written(page, folder)
    for name in ("results", "again", "from_the_cluster"):
        for model in ("transformer", "performer", "first_operator"):
            part = Path("runs") / "listops" / model
            shutil.copytree(ROOT / "results" / part, folder / name / part)
    shutil.copytree(ROOT / "results" / "published", folder / "results" / "published")
    return folder


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    return place


def told(command: Command) -> list[tuple[str, list[str]]]:
    """[(door, words)] of what is Python of ours: `python -m lra.VERB …`, `lra VERB …`, torchrun's; else nothing."""
    found = []
    for line in " ".join(shlex.quote(w) for w in command.words).split(" '&&' "):
        words = shlex.split(line)
        if "-m" in words and words[0].endswith(("python", "torchrun")):
            door, *rest = words[words.index("-m") + 1 :]
            if door == "lra" and rest and rest[0] in verbs():
                door, rest = f"lra.{rest[0]}", rest[1:]
            if door.split(".")[0] == "lra":
                found.append((door, rest))
    return found


DOORS = list(dict.fromkeys((d, tuple(w), c.folder) for c in commands() for d, w in told(c)))


def test_runs_and_sweeps_say_what_they_would_do(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [(words, folder) for door, words, folder in DOORS if door == "lra" and "--help" not in words]
    assert len(asked) > 30
    seen = set()  # sweeps that begin with the same run are one
    for words, folder in asked:
        with monkeypatch.context() as patch:
            if folder != ".":
                patch.chdir(ROOT / folder)
                patch.syspath_prepend(ROOT / folder)
            typed, own = first([w for w in words if w not in ("-m", "--dry-run")])
            one = frozenset(w for w in typed if not w.startswith(("seed=", "threads=", "results_dir=")))
            if one in seen:
                continue
            seen.add(one)
            settings = compose.config(typed, own)
            if own:
                assert "1 to do" in of_run(settings), words


def first(words: list[str]) -> tuple[list[str], str | None]:
    """The words of a sweep's first run, and the folder of one's own; each value of a list is one that there is."""
    rest, folder = split(words)
    chosen = dict(word.split("=", 1) for word in rest)
    if "sweep" in chosen:
        text = (CONFIGS / "sweep" / f"{chosen['sweep']}.yaml").read_text()
        usual = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
        chosen = {"task": first_of("task", usual["task"]), "model": first_of("model", usual["model"])} | chosen
    for group in ("task", "model"):
        names = chosen.get(group, "listops" if group == "task" else "transformer").split(",")
        assert set(names) <= set(choices(group, folder)), words
        chosen[group] = names[0]
    chosen = {k: v if v.startswith("[") else v.split(",")[0] for k, v in chosen.items()}
    for key in ("minutes", "workers", "devices"):  # are for sweeps, and say nothing of a run
        chosen.pop(key, None)
    return [f"{key}={value}" for key, value in chosen.items()], folder


def first_of(group: str, asked: str) -> str:
    """The first file that glob(*,exclude=[…]) names, or the first of a list."""
    if not asked.startswith("glob"):
        return asked.split(",")[0]
    left_out = asked.partition("exclude=[")[2].rstrip("])").split(",")
    return next(name for name in choices(group) if not any(fnmatch(name, pattern) for pattern in left_out))


def test_doors_that_read_records(there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    asked = [(door, words) for door, words, _ in DOORS if door in ROOMS]
    assert {door for door, _ in asked} == set(ROOMS)
    monkeypatch.setattr(render, "figures", lambda *_: iter(()))  # which the words are not about
    for door, words in sorted(asked, key=lambda a: (a[0], "--check" in a[1], a[1])):
        main = door_of(door)
        monkeypatch.setattr(sys, "argv", [door, *words])
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        except lra.errors.UserError as error:  # what these few records cannot show; a word that is none says "option"
            assert "option" not in str(error) and "is not one of" not in str(error), (door, words, str(error))
            code = 0
        assert not code or "--check" in words, (door, words, capsys.readouterr())


def door_of(name: str) -> Callable[[], int | None]:
    try:
        return importlib.import_module(f"{name}.__main__").main
    except ModuleNotFoundError:
        return importlib.import_module(name).main


def test_doors_that_take_long_know_their_words(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lra.data.__main__ import parser

    for door, words, folder in DOORS:
        rest, own = split(list(words))
        if door == "lra.data":
            parsed = parser().parse_args(list(words))
            assert set(named(getattr(parsed, "words", []), "task")) <= set(choices("task"))
        elif door in ("lra.check", "lra.measure", "lra.floors"):
            if "--only" in rest:
                at = rest.index("--only")
                assert set(rest[at + 1].split(",")) <= set(points())
                rest = rest[:at] + rest[at + 2 :]
            assert all("=" in word for word in rest) or rest == ["--self-test"]
            with monkeypatch.context() as patch:
                patch.chdir(there if folder == "." else ROOT / folder)
                assert set(named(rest, "model")) <= set(choices("model", own))
                assert set(named(rest, "task")) <= set(choices("task", own))
        elif door == "lra.treat":
            assert {n for n in named(rest, "treatment") if "*" not in n} <= set(choices("treatment", own))
            assert rest == ["table"] or keyed([w for w in rest if w != "--dry-run"])
        elif door == "lra.repeat":
            assert repeated(rest).record.model in choices("model", own)
        elif door == "lra.compare":  # no module is imported over the function of that name
            (a, b), given, _ = runpy.run_module(door)["asked"](list(words))
            assert {a, b} <= set(choices("model", own)) and set(given["task"].split(",")) <= set(choices("task", own))
        elif door == "lra.tune":
            asked = tune.asked(rest)
            assert set(asked.models) <= set(choices("model", own)) and set(asked.tasks) <= set(choices("task", own))
            compose.config(asked.trial(asked.tasks[0], asked.models[0], 1, ()).words, own)
        elif door == "lra.search":
            what = search([w for w in rest if w != "--dry-run"] + (["--config-dir", own] if own else []))
            assert what.lengths and what.space.shapes
        elif door in ("lra.ceilings",):
            assert rest == []
        else:
            assert door in ("lra", *ROOMS), f"{door}: not known to a test"


def named(words: list[str], group: str) -> list[str]:
    return [n for w in words if w.startswith(f"{group}=") for n in w.partition("=")[2].split(",") if n != "all"]


def test_what_is_no_command_of_ours() -> None:
    """make, pip and scripts."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rest = [c for c in commands() if not told(c)]
    for command in rest:
        words = list(command.words)
        if words[0] == "make":
            assert words[1] in targets, command
        elif words[0].endswith("pip"):
            wanted = re.findall(r"(?:lra|\.)\[([\w,]+)\]", " ".join(words))
            assert words[1] == "install" and {e for group in wanted for e in group.split(",")} <= set(extras), command
        elif words[0] == "python":
            assert words[1:2] == ["-m"] or (ROOT / command.folder / words[1]).is_file(), command
        else:
            assert " ".join(words) in SHELL, command


def test_python_of_the_docs_is_python_and_knows_lra() -> None:
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
            tree = ast.parse(block)
            used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "lra"}
            assert used <= {*lra.__all__}, page


def test_groups_of_the_list_are_told() -> None:
    words = {w[0] for d, w, _ in DOORS if d == "lra.list" and w}
    assert words <= set(GROUPS) and "models" in words
