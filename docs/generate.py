"""The pages that are written at build time: every model and every exam, from its YAML, its docstrings and the published
table; the README as the front page; what else the repository keeps outside of docs/. A hook of mkdocs (mkdocs.yml).

Nothing of ours is imported that needs torch, and no file is written beside the site.
"""

from __future__ import annotations

import ast
import csv
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lra.cite import bibliography, cited
from lra.list import listed

ROOT = Path(__file__).resolve().parent.parent
CHART = "results/figures/bubble-quick-intel-r-xeon-r-processor-float32.png"
# Files of the repository that are pages of the site too.
ELSEWHERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
ASSETS = {CHART: "figures/bubble.png"}


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown, of all that is generated."""
    found = {page: linked((ROOT / file).read_text(), "") for file, page in ELSEWHERE.items() if (ROOT / file).exists()}
    for group, folder in (("model", "models"), ("task", "exams")):
        about = {name: described(group, name) for name, _ in listed(group)}
        found |= {f"{folder}/{name}.md": page(group, name, told) for name, told in about.items()}
        found[f"{folder}/index.md"] = index(group, about)
    return found


def described(group: str, name: str) -> dict[str, Any]:
    """What the YAML of a model or a task says, `text` and `head` (its comment) with it."""
    text = (ROOT / "configs" / group / f"{name}.yaml").read_text()
    head = [line.lstrip("# ") for line in _head(text)]
    return (yaml.safe_load(text) or {}) | {"text": text, "head": "\n".join(head)}


def _head(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        if not line.startswith("# @"):
            yield line


def page(group: str, name: str, told: Mapping[str, Any]) -> str:
    """The page of a model or an exam."""
    shown = told["about" if group == "model" else "exam"]
    sources = ", ".join(map(source, cited(group, name))) or "of this suite"
    parts = [f"# {shown['title']}", f"`{group}={name}`", markdown(told["head"]), f"Source: {sources}."]
    if group == "model":
        parts.append(_of_model(told))
    classes = list(_classes(group, name))
    modules = dict.fromkeys(path for path, _ in classes)
    for path in modules:
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        parts += [f"## {path.relative_to(ROOT)}", markdown(doc)]
        parts += [_class(path, of) for place, of in classes if place == path]
    parts += ["## Results on record", results(group, name, shown)]
    found, _ = bibliography([(group, name)])
    if papers := [entry for entry in found if "{lra," not in entry]:
        parts += ["## To cite", fenced("\n\n".join(papers), "bibtex")]
    parts += ["## Its file", fenced(told["text"], "yaml")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_model(told: Mapping[str, Any]) -> str:
    about, claims = told["about"], told.get("claims") or {}
    rows = [("family", about["family"])]
    rows += [(f"claimed growth of {what}", f"length to the power of {power:g}") for what, power in claims.items()]
    return table(("", ""), rows)


def source(cite: str) -> str:
    """ "arXiv 2009.14794" as a link."""
    kind, _, what = cite.partition(" ")
    place = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return f"[{cite}]({place}{what})" if place else f"<{what}>"


def _classes(group: str, name: str) -> Iterator[tuple[Path, str]]:
    """(file, class) of what a YAML builds, itself or the file that it starts from, each once."""
    text = (ROOT / "configs" / group / f"{name}.yaml").read_text()
    for base in re.findall(r"^\s*- (\w+)$", text.partition("defaults:")[2].split("\n_self_")[0], flags=re.M):
        if (ROOT / "configs" / group / f"{base}.yaml").is_file() and base != name:
            yield from _classes(group, base)
            break
    for target in dict.fromkeys(re.findall(r"_target_: lra\.((?:models|tasks)[\w.]*)", text)):
        module, _, of = target.rpartition(".")
        yield _defined(ROOT.joinpath(*module.split(".")), of), of


def _defined(place: Path, of: str) -> Path:
    """The file that defines the class `of` of a module or of a package that hands it on."""
    files = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.glob("*.py"))
    return next(path for path in files if re.search(rf"^class {of}\b", path.read_text(), flags=re.M))


def _class(path: Path, of: str) -> str:
    node = next(n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and n.name == of)
    built = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    signature = f"\n\n{fenced(_signature(of, built), 'python')}" if built else ""
    return f"### {of}{signature}\n\n{markdown(ast.get_docstring(node) or '')}"


def _signature(of: str, built: ast.FunctionDef) -> str:
    given = ast.unparse(built.args).removeprefix("self, ").removeprefix("self")
    return "\n".join(textwrap.wrap(f"{of}({given})", 96, subsequent_indent="    "))


def results(group: str, name: str, shown: Mapping[str, Any]) -> str:
    """The cells of the published table, floors too, that are of a model or in an exam's column."""

    def wanted(cell: Mapping[str, str]) -> bool:
        if group == "model":
            return cell["model"] == name and cell["kind"] in ("model", "ability")
        of = cell["column"] == shown["title"] or cell["column"].startswith(f"{shown['title']} (")
        return of and cell["kind"] in ("model", "ability", "floor")

    with (ROOT / "results" / "leaderboard.csv").open(newline="") as file:
        cells = [cell for cell in csv.DictReader(file) if wanted(cell) and not cell["row"].startswith("avg")]
    if not cells:
        return f"None yet: `python -m lra {group}={name}` makes one."
    heads = ("exam" if group == "model" else "model", "budget", "accuracy, %", "95 %", "seeds", "learnt", "parameters")
    return table(heads, [_cell(cell, group) for cell in cells])


def _cell(cell: Mapping[str, str], group: str) -> list[str]:
    def percent(text: str) -> str:
        return f"{100 * float(text):.1f}" if text else "-"

    name = cell["column"] if group == "model" else cell["model"]
    name = f"floor: {name}" if cell["kind"] == "floor" else name
    between = f"{percent(cell['low'])} to {percent(cell['high'])}" if cell["low"] else ""
    learnt = f"{cell['learnt_seeds']} of {cell['seeds']}" if cell["kind"] == "ability" else ""
    parameters = f"{int(cell['parameters']):,}" if cell["parameters"] else ""
    seeds = "" if cell["kind"] == "floor" else cell["seeds"]
    budget = "" if cell["kind"] == "floor" else cell["budget"]
    score = percent(cell["accuracy"]) if cell["accuracy"] else cell["reason"] or cell["status"]
    return [
        name,
        f"{budget}, {cell['machine']}" if budget else cell["machine"],
        score,
        between,
        seeds,
        learnt,
        parameters,
    ]


def index(group: str, about: Mapping[str, Mapping[str, Any]]) -> str:
    said = dict(listed(group))
    if group == "model":
        families: dict[str, list[str]] = {}
        for name, told in about.items():
            families.setdefault(told["about"]["family"], []).append(name)
        body = [
            f"## {family}\n\n" + table(("model", "", ""), [_line(name, about[name]["about"], said) for name in names])
            for family, names in sorted(families.items())
        ]
        return "# Models\n\n" + (
            "A model is one file in `models/` and one YAML in `configs/model/`; the YAML says the paper, the setting"
            " taken and what is claimed of its growth. Each is tested against a dense float64 version of its"
            " equations, and none builds the matrix that it says it avoids. A `_block` is a mixer in the layers of its"
            " own paper. Controls are no rivals: they mix nothing, or only what is near."
            "\n\n" + "\n\n".join(body) + "\n"
        )
    names = sorted(about, key=lambda name: about[name]["exam"]["order"])
    rows = [_line(name, about[name]["exam"], said) for name in names]
    return (
        "# Exams\n\nThe first are those of the Long Range Arena and what stands in for them; the others ask for one"
        f" [ability](../abilities.md) each.\n\n{table(('task', '', ''), rows)}\n"
    )


def _line(name: str, shown: Mapping[str, Any], said: Mapping[str, str]) -> list[str]:
    return [f"[`{name}`]({name}.md)", shown["title"], escaped(said[name])]


def markdown(doc: str) -> str:
    """A docstring: what is indented stands as it is, all else is prose."""
    blocks = re.split(r"\n\s*\n", doc.strip("\n"))
    out: list[tuple[bool, str]] = []
    for block in blocks:
        lines = block.splitlines()
        while lines:
            kept = _kept(lines[0])
            end = next((i for i, line in enumerate(lines) if _kept(line) != kept), len(lines))
            out.append((kept, "\n".join(lines[:end])))
            lines = lines[end:]
    return "\n\n".join(fenced(textwrap.dedent(text)) if kept else escaped(text) for kept, text in _joined(out))


def _kept(line: str) -> bool:
    """Set as code: what is indented, and a line of a list whose columns are spaces."""
    return line.startswith(" ") or re.match(r"[\w.]+ {3,}", line) is not None


def _joined(parts: list[tuple[bool, str]]) -> Iterator[tuple[bool, str]]:
    """Neighbours that are both code are one block."""
    held: list[str] = []
    for kept, text in parts:
        if kept:
            held.append(text)
            continue
        if held:
            yield True, "\n\n".join(held)
            held = []
        yield False, text
    if held:
        yield True, "\n\n".join(held)


def escaped(text: str) -> str:
    """Text in which Markdown finds nothing but `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_<>\[\]|#])", r"\\\1", p) for p in parts)


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def table(heads: tuple[str, ...], rows: list[Any]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def linked(text: str, up: str) -> str:
    """Text whose links to files of the repository lead to their pages; where a file has none, its name is left.
    up: what a link must begin with to leave docs/."""

    def to(found: re.Match[str]) -> str:
        said, target = found["said"], found["target"]
        path = target.partition("#")[0]
        if "://" in target or not target.startswith(up) or not path:
            return found[0]
        file = path.removeprefix(up)
        if file in ASSETS:
            return f"{found['picture']}[{said}]({ASSETS[file]})"
        if file.startswith("docs/") and not up:
            return f"[{said}]({target.removeprefix('docs/')})"
        if file in ELSEWHERE and (ROOT / file).exists():
            return f"[{said}]({ELSEWHERE[file]}{target[len(path) :]})"
        return said if said.startswith("`") else f"`{file}`"

    return re.sub(r"(?P<picture>!?)\[(?P<said>[^\]]*)\]\((?P<target>[^)\s]+)\)", to, text)


def on_config(config: Any) -> Any:
    """The names of generated pages, below the two headings that stand for them; pages that no heading names, last."""
    named = str(config.nav)
    if more := [p.name for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in named]:
        config.nav.append({"More": more})
    for heading in config.nav:
        for title, first in list(heading.items()):
            if isinstance(first, str) and first.endswith("/index.md"):
                group = {"models": "model", "exams": "task"}[first.partition("/")[0]]
                heading[title] = [first, *(f"{first.partition('/')[0]}/{name}.md" for name, _ in listed(group))]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    for source_file, path in ASSETS.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / source_file)))
    return files


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    return text if page.file.src_uri in ELSEWHERE.values() else linked(text, "../")
