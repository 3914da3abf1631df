"""What the README and the docs tell a reader to type, and the files that they show."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.help.tiny import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = re.compile(r"…|\b[A-Z]{2,}\b")  # `python -m lra.data verify FOLDER` names no folder


@dataclass(frozen=True)
class Command:
    """A line of a shell, as words; `folder`: where it is typed, below the repository, if that is said."""

    page: str
    words: tuple[str, ...]
    folder: str = "."

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    """Of all blocks ```sh, and what is typed as `python -m lra…` in the text, each once a page."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S):
            folder = "."
            for line in block.replace("\\\n", " ").splitlines():
                words = tuple(shlex.split(line, comments=True))
                if words[:1] == ("cd",):
                    folder = words[1]
                elif words:
                    found.append(Command(page.name, words, folder))
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        for line in re.findall(r"`((?:python -m )?lra[ .][^`]+)`", prose):
            if line.startswith("python") and not PLACEHOLDER.search(line):
                found.append(Command(page.name, tuple(shlex.split(line))))
    return list(dict.fromkeys(found))


def files(page: str) -> dict[str, str]:
    """The files that a page shows: name -> text, of "`mine/model/gate.yaml`:" with a block below it."""
    text = (ROOT / page).read_text()
    shown = re.findall(r"^[^\n]*?`([\w/]+\.(?:py|yaml))`[^\n]*:\n\n```\w+\n(.*?)```", text, flags=re.S | re.M)
    return dict(shown)


def written(page: str, place: Path) -> Path:
    """A folder with the files that a page shows."""
    for name, text in files(page).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place
