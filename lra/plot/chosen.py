"""Figures of a choice: what they are called, what they carry, and how they are made again."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from lra.marks.query import FILTERS, Query
from lra.marks.query import asked as chosen_by
from lra.plot.choice import asked
from lra.plot.places import FOLDER, slug
from lra.plot.render import CHOSEN, COMMAND, chosen, filed, render
from lra.results import Results


def asked_for(results: Results, words: Sequence[str], keep_names: bool = False) -> tuple[dict[str, bytes], list[str]]:
    """Name below the results folder -> content, of what the words choose; and the words that are no choice.

    Files of a choice are called so, but for `keep_names`, of a folder that is theirs alone.
    """
    axes, rest = asked(words)
    query, rest = chosen_by(rest, FILTERS)
    if axes is None and not query:
        return render(results), rest
    found = results.selected(query)
    drawn = render(found) if axes is None else filed(chosen(found, axes), [*query.words, *axes.words])
    if query and not keep_names:
        drawn = {f"{FOLDER}/{called_by(query, Path(name))}": content for name, content in drawn.items()}
    return drawn, rest


def called_by(query: Query, file: Path) -> str:
    return f"{CHOSEN}-{slug(f'{query} {file.stem.removeprefix(CHOSEN)}')}{file.suffix}"


def carried(path: Path) -> list[str]:
    """The words of the choice that the file of a figure carries; none where it is of all that there is."""
    if path.suffix == ".svg":
        found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(errors="replace"), re.DOTALL)
        text = html.unescape(found[1]) if found else ""
    else:
        from PIL import Image

        with Image.open(path) as picture:
            text = str(picture.info.get("Description", ""))
    return shlex.split(text.removeprefix(COMMAND)) if text.startswith(COMMAND) else []
