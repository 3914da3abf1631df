"""Figures of a choice: what they are called, what they carry, and how they are made again."""

from __future__ import annotations

import csv
import html
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from lra.errors import UserError
from lra.marks.query import FILTERS, Query
from lra.marks.query import asked as chosen_by
from lra.plot import over
from lra.plot.choice import AXES, asked
from lra.plot.places import COMMAND, FOLDER, slug
from lra.plot.render import CHOSEN, chosen, filed, render
from lra.results import Results


def asked_for(results: Results, words: Sequence[str], keep_names: bool = False) -> tuple[dict[str, bytes], str]:
    """Name below the results folder -> content, of what the words choose; and what there is to be told of it.

    Files of a choice are called so, but for `keep_names`, of a folder that is theirs alone. Raises UserError for a word
    that is no choice.
    """
    setting, rest = over.asked(words)
    axes, rest = asked(rest)
    query, rest = chosen_by(rest, FILTERS)
    if rest or (setting is not None and axes is not None):
        allowed = f"{', '.join(FILTERS)}, and {', '.join(AXES)} or {over.OVER}"
        raise UserError(f"{' '.join(rest or words)}: is no choice; allowed: {allowed}")
    told = ""
    if setting is not None:
        table = over.found(results.selected(query), setting)
        drawn, told = over.written(table, setting, query.words), over.told(table, setting)
    elif axes is not None:
        drawn = filed(chosen(results.selected(query), axes), [*query.words, *axes.words])
    else:
        drawn = render(results.selected(query))
    if query and not keep_names:
        drawn = {f"{FOLDER}/{called_by(query, Path(name))}": content for name, content in drawn.items()}
    return drawn, told


def called_by(query: Query, file: Path) -> str:
    return f"{CHOSEN}-{slug(f'{query} {file.stem.removeprefix(CHOSEN)}')}{file.suffix}"


def carried(path: Path) -> list[str]:
    """The words of the choice that a figure, or the table of one, carries; none where it is of all that there is."""
    if path.suffix == ".csv":
        with path.open(newline="", errors="replace") as file:
            text = next(csv.DictReader(file), {}).get("command") or ""
    elif path.suffix == ".svg":
        found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(errors="replace"), re.DOTALL)
        text = html.unescape(found[1]) if found else ""
    else:
        from PIL import Image

        with Image.open(path) as picture:
            text = str(picture.info.get("Description", ""))
    return shlex.split(text.removeprefix(COMMAND)) if text.startswith(COMMAND) else []
