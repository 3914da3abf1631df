"""BibTeX of models and exams, and of this suite, from configs/cite.bib.

python -m lra.cite                                        of all
python -m lra.cite task=listops,text model=performer      of these; names may be patterns, as model=s4d*
python -m lra.cite model=mine --config-dir mine           of one's own, from mine/cite.bib too
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lra import console
from lra.errors import UserError, guarded, nearest
from lra.root import CONFIGS
from lra.settings.words import choices, split

WHERE = {"model": "about", "task": "exam"}  # the part of a YAML that says `cite`
SUITE = "lra"  # its own key


def entries(config_dir: str | None = None) -> dict[str, str]:
    """Key -> entry as it stands; where two files have one, the user's own counts."""
    found: dict[str, str] = {}
    for folder in (CONFIGS, *([Path(config_dir)] if config_dir else [])):
        path = folder / "cite.bib"
        if path.is_file():
            found |= parsed(path.read_text(errors="replace"), path)
    return found


def parsed(text: str, path: Path) -> dict[str, str]:
    """The entries of a .bib file, to the brace that closes each. Raises UserError for one that does not end, or a key
    that stands twice."""
    found: dict[str, str] = {}
    for begin in re.finditer(r"^@\w+\s*\{\s*([^\s,{}]+)\s*,", text, flags=re.M):
        depth = 0
        for at in range(begin.start(), len(text)):
            depth += (text[at] == "{") - (text[at] == "}")
            if text[at] == "}" and depth == 0:
                break
        else:
            raise UserError(f"{path}: the entry {begin[1]} is not closed")
        if begin[1] in found:
            raise UserError(f"{path}: the key {begin[1]} stands twice")
        found[begin[1]] = text[begin.start() : at + 1]
    return found


def fields(entry: str) -> dict[str, str]:
    """The fields of an entry, their outer braces or quotes taken off."""
    found = re.findall(r"^\s*(\w+)\s*=\s*(?:\{(.*)\}|\"(.*)\"|(\w+))\s*,?\s*$", entry[:-1], flags=re.M)
    return {name.lower(): braced or quoted or bare for name, braced, quoted, bare in found}


def named(known: dict[str, str]) -> dict[str, str]:
    """ "arXiv 2009.14794", "doi …" or "url …", as YAMLs cite, -> key."""
    out = {}
    for key, entry in known.items():
        has = fields(entry)
        for field, kind in (("eprint", "arXiv"), ("doi", "doi"), ("url", "url")):
            if field in has:
                out[f"{kind} {has[field]}"] = key
    return out


def cited(group: str, name: str, config_dir: str | None = None) -> list[str]:
    """What the YAML of a model or a task cites; nothing where it is of this suite, or of the user's own."""
    import yaml

    places = [Path(config_dir), CONFIGS] if config_dir else [CONFIGS]
    path = next(f for place in places if (f := place / group / f"{name}.yaml").is_file())
    try:
        said: Any = (yaml.safe_load(path.read_text()) or {}).get(WHERE[group]) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path}: this is no YAML") from error
    return [word.strip() for word in str(said.get("cite") or "").split(",") if word.strip()]


def chosen(words: list[str], config_dir: str | None) -> list[tuple[str, str]]:
    """(group, name) of what the words name; of everything where they name nothing."""
    given = dict(word.partition("=")[::2] for word in words)
    if wrong := [word for word in words if word.partition("=")[0] not in WHERE or not word.partition("=")[2]]:
        raise UserError(f"cite: {wrong[0]!r} is not an option; allowed: task=NAME,… model=NAME,…")
    out = []
    for group in given or WHERE:
        known = choices(group, config_dir)
        for pattern in given.get(group, "*").split(","):
            found = [name for name in known if fnmatchcase(name, pattern)]
            if not found:
                raise UserError(f"{group}: there is no {pattern!r}.{nearest(pattern, known)}")
            out += [(group, name) for name in found]
    return list(dict.fromkeys(out))


def bibliography(asked: list[tuple[str, str]], config_dir: str | None = None) -> tuple[list[str], list[str]]:
    """The entries of what is asked for and of this suite, by key; and a line for each source that is in no file."""
    known = entries(config_dir)
    keys, wanted, missing = named(known), {SUITE}, []
    for group, name in asked:
        for source in cited(group, name, config_dir):
            if source in keys:
                wanted.add(keys[source])
            else:
                missing.append(f"{group}={name} cites {source}, which stands in no cite.bib")
    return [known[key] for key in sorted(wanted)], missing


def main() -> int:
    words, config_dir = split(sys.argv[1:])
    if config_dir is not None and not Path(config_dir).is_dir():
        raise UserError(f"--config-dir: {config_dir} is not a folder")
    found, missing = bibliography(chosen(words, config_dir), config_dir)
    print("\n\n".join(found))
    for line in missing:
        console.say(console.line(line))
    return 1 if missing else 0


if __name__ == "__main__":
    guarded(main, __doc__)
