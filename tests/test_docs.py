"""The pages that docs/generate.py writes: every model and every exam, whole; nothing that leads nowhere."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import PurePosixPath

import pytest

from lra.settings.words import choices
from tests.help.tiny import ROOT
from tests.help.told import PAGES

SPEC = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)
pytestmark = pytest.mark.xdist_group("docs")


@cache
def made() -> dict[str, str]:
    """Every page; made where it is asked for, and not by every process that collects tests."""
    return generate.pages()


@pytest.mark.parametrize(("group", "folder"), [("model", "models"), ("task", "exams")])
def test_every_file_of_a_group_has_its_page(group: str, folder: str) -> None:
    names = {PurePosixPath(path).stem for path in made() if path.startswith(f"{folder}/")} - {"index"}
    assert names == set(choices(group))
    for name in names:
        text, head = made()[f"{folder}/{name}.md"], generate.described(group, name)
        title = head["about" if group == "model" else "exam"]["title"]
        assert text.startswith(f"# {title}\n") and head["text"].rstrip() in text
        assert re.search(r"^## (models|tasks)/[\w/]+\.py$", text, flags=re.M), name
        assert f"[`{name}`]({name}.md)" in made()[f"{folder}/index.md"]


def test_a_page_has_equation_options_source_and_numbers() -> None:
    text = made()["models/performer.md"]
    for part in (
        "exp(q k / sqrt(E)) = E_w[ phi_w(q) phi_w(k) ]", "features: int=256", "https://arxiv.org/abs/2009.14794",
        "@inproceedings{choromanski2021performer,",
        "length to the power of 1",
    ):  # fmt: skip
        assert part in text, part
    assert re.search(r"\| ListOps \(128\) \| quick, Intel\S+ .*\| 4\d\.\d \| 3\d\.\d to 4\d\.\d \| \d+ \|", text)
    assert "| floor: first_operator |" in made()["exams/listops.md"] and "fewest n" in made()["exams/recall.md"]
    assert "Recall where a key" in made()["exams/recall_adjacent.md"] and "class" not in made()["exams/recall.md"][:40]


@pytest.mark.parametrize(
    ("doc", "page"),
    [
        ("A * b_c.\n\n    x = y\n\n    z = 1\n\nMore `a*b`.",
         "A \\* b\\_c.\n\n```text\nx = y\n\nz = 1\n```\n\nMore `a*b`."),
        ("dim    D, always\nheads  H\n\nEnd.", "```text\ndim    D, always\n```\n\nheads  H\n\nEnd."),
    ],
)  # fmt: skip
def test_a_docstring_as_markdown(doc: str, page: str) -> None:
    assert generate.markdown(doc) == page


def test_links_lead_to_pages() -> None:
    known = {p.name for p in PAGES if p.parent.name == "docs"} | set(made()) | set(generate.ASSETS.values())
    texts = made() | {p.name: generate.linked(p.read_text(), "../") for p in PAGES if p.parent.name == "docs"}
    for page, text in texts.items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", text, flags=re.S)):
            if "://" not in target:
                place = PurePosixPath(page).parent / target
                assert str(place).replace("exams/../", "").replace("models/../", "") in known, (page, target)
