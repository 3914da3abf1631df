"""What comments and docs call "spec 4.5" stands in docs/spec.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "docs" / "spec.md"
SUFFIXES = {".py", ".yaml", ".md"}
NUMBER = r"\d+(?:\.\d+)*"


def references(text: str) -> list[str]:
    """Numbers that a text refers to: "spec 4.5", "spec 1.3, 2", "spec section 2", broken over lines or not, and
    "(4.6)" in a paragraph that names the spec before."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = re.sub(r"\s*\n[ \t#]*", " ", paragraph)
        said = [*re.finditer(rf"\bspec (?:section )?({NUMBER}(?:(?:,| and) {NUMBER})*)", words, flags=re.I)]
        found += [number for match in said for number in re.findall(NUMBER, match[1])]
        if said:
            found += re.findall(r"(?<=\s)\((\d\.\d{1,2})\)", words[said[0].end() :])
    return found


def targets(text: str) -> list[str]:
    """Numbers of the headings, and of the items of numbered lists as "heading.item"."""
    found, heading = [], ""
    for line in text.splitlines():
        if match := re.match(rf"#+ ({NUMBER})\.? ", line):
            heading = match[1]
            found.append(heading)
        elif heading and (match := re.match(r"(\d+)\. ", line)):
            found.append(f"{heading}.{match[1]}")
    return found


def unresolved(text: str) -> list[str]:
    """The references of a text that docs/spec.md does not have."""
    there = set(targets(SPEC.read_text(encoding="utf-8")))
    return [number for number in references(text) if number not in there]


def sources() -> list[Path]:
    """Source, configs and docs under version control; all there are where there is none (an unpacked sdist)."""
    git = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if git.returncode == 0 and "docs/spec.md" in (names := git.stdout.split("\0")):
        files = [ROOT / name for name in names]
    else:
        rooms = ("lra", "tasks", "models", "configs", "examples", "notebooks", "tests", "docs")
        files = [*ROOT.glob("*.*"), *(file for room in rooms for file in (ROOT / room).rglob("*"))]
    return [file for file in files if file.suffix in SUFFIXES and file.is_file() and file != SPEC]


def test_every_reference_resolves() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in sources()}
    wrong = {str(file.relative_to(ROOT)): numbers for file, text in texts.items() if (numbers := unresolved(text))}
    assert not wrong
    assert sum(len(references(text)) for text in texts.values()) > 50


def test_numbers_are_given_once() -> None:
    numbers = targets(SPEC.read_text(encoding="utf-8"))
    assert len(numbers) == len(set(numbers))
    assert {"0", "0.10", "1.3", "2", "4.5"} <= set(numbers)


def test_the_spec_points_at_itself() -> None:
    """Within docs/spec.md a bare "(4.6)" or "(3.4, 3.5)" is enough."""
    text = SPEC.read_text(encoding="utf-8")
    lists = re.findall(r"(?<=\s)\((\d\.\d{1,2}(?:, \d\.\d{1,2})*)\)", text)
    assert len(lists) > 10
    assert {number for numbers in lists for number in numbers.split(", ")} <= set(targets(text))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("# Path ({} 1.7, 3): discs", ["1.7", "3"]),
        ("({} 5.1, 5.2).", ["5.1", "5.2"]),
        ("# as in the setting\n# ({}\n# 5.1); one", ["5.1"]),
        ("    as there ({} section 2): a node", ["2"]),
        ("({} 0.10).", ["0.10"]),
        ("# the base ({} 4.3). Where it says\n# 2048 (4.6), the", ["4.3", "4.6"]),
        ("({} 4.3)\n\nmul (0.2)", ["4.3"]),
        ("(4.6), no word of it; respec 4.1; in{} 4", []),
    ],
)
def test_references_are_found(text: str, numbers: list[str]) -> None:
    assert references(text.format("spec")) == numbers


@pytest.mark.parametrize("number", ["99.9", "0.11", "9", "4.7", "2.4"])
def test_a_wrong_reference_is_found(number: str) -> None:
    assert unresolved(f"# as in the code (spec {number}).") == [number]
    assert unresolved(f"# as in the code (spec 4.5, {number})") == [number]
