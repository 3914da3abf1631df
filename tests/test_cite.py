"""Every model and exam has its source in configs/cite.bib, whole and once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lra.cite import bibliography, chosen, cited, entries, fields, named, parsed
from lra.errors import UserError
from lra.root import CONFIGS
from lra.settings.words import choices
from tests.help import tiny

OURS = {"identity", "window5", "texture"}  # of this suite
TEXT = (CONFIGS / "cite.bib").read_text()


@pytest.mark.parametrize("group", ["model", "task"])
def test_each_has_its_source(group: str) -> None:
    keys = named(entries())
    for name in choices(group):
        sources = cited(group, name)
        assert (sources == []) == (name in OURS), name
        assert set(sources) <= set(keys), name
        if group == "model" and sources:  # the YAML's comment speaks of the same paper
            kinds = {s.split(" ")[1] for s in sources}
            head = (CONFIGS / group / f"{name}.yaml").read_text().split("model:")[0]
            assert any(k in head for k in kinds) or "arXiv" not in head, name


def test_the_file_parses_and_says_all_of_each() -> None:
    known = entries()
    rest = TEXT
    for key, entry in known.items():
        has = fields(entry)
        assert {"title", "author", "year"} <= set(has), key
        assert re.fullmatch(r"(19|20)\d\d", has["year"]) and entry.count("{") == entry.count("}"), key
        kind = re.match(r"@(\w+)", entry)[1]
        needed = {"inproceedings": "booktitle", "article": "journal", "techreport": "institution"}
        assert kind == "misc" or needed[kind] in has, key
        assert key == "lra" or {"eprint", "doi", "url"} & set(has), key
        if "eprint" in has:
            year = 2000 + int(has["eprint"][:2])
            assert re.fullmatch(r"\d{4}\.\d{4,5}", has["eprint"]) and year <= int(has["year"]) <= year + 3, key
        assert entry.isascii(), key
        rest = rest.replace(entry, "")
    assert not re.search(r"^[^%\s]", rest, flags=re.M) and list(known) == sorted(known)
    assert len(set(named(known).values())) == len(known) - 1, "an identifier stands once"


def test_what_is_asked_for() -> None:
    found, missing = bibliography(chosen(["model=s4d*,performer", "task=listops"], None))
    assert missing == [] and [re.search(r"\{(\w+),", e)[1] for e in found] == [
        "choromanski2021performer", "gu2022s4d", "lra", "nangia2018listops", "tay2021lra",
    ]  # fmt: skip
    assert len(bibliography(chosen([], None))[0]) > 70


def test_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text('model: {}\nabout: {cite: "arXiv 2999.00001, doi 10.1/x"}\n')
    own = "@article{me,\n  title = {A {B} C},\n  doi = {10.1/x}}\n@misc{ lra, title={Another}}"
    (tmp_path / "cite.bib").write_text(own)
    done = tiny.lra("model=mine", "--config-dir", str(tmp_path), module="lra.cite")
    assert done.returncode == 1 and done.stderr == "model=mine cites arXiv 2999.00001, which stands in no cite.bib\n"
    assert done.stdout == "@misc{ lra, title={Another}}\n\n@article{me,\n  title = {A {B} C},\n  doi = {10.1/x}}\n"
    for words in (["model=performr"], ["models=linear"], ["model="], ["linear"], ["--config-dir", "nowhere"]):
        done = tiny.lra(*words, module="lra.cite")
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    for text in ("@misc{a, title={b}", "@misc{a, x={1}}\n@misc{a, x={1}}"):
        with pytest.raises(UserError, match=r"x\.bib: the (entry|key) a "):
            parsed(text, Path("x.bib"))


def test_what_is_cited_as_software_is_this_version() -> None:
    import lra

    cff = (tiny.ROOT / "CITATION.cff").read_text()
    project = (tiny.ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {lra.__version__}\n" in cff and f'\nversion = "{lra.__version__}"\n' in project
    assert f"Version {lra.__version__}" in entries()["lra"]
    assert f"## {lra.__version__}\n" in (tiny.ROOT / "CHANGELOG.md").read_text()
