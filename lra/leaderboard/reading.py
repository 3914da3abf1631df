"""What a reader does with the page: chooses models, exams and budgets, and reads the conditions of a number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from lra.marks.about import families


def known(names: Iterable[str], of: Mapping[str, str] | None = None) -> str:
    """Model -> family of those that are shown, for the script. of: as lra.marks.about has them."""
    of = families() if of is None else of
    found = {name.split(" ")[0] for name in names}
    return json.dumps({name: of[name] for name in sorted(found) if name in of}, separators=(",", ":"))


STYLE = """
.choose { margin: 0 0 1rem; font-size: .875rem; color: var(--soft); display: flex; flex-wrap: wrap; gap: .5rem 1rem; }
.choose label { white-space: nowrap; } .choose input[type=search] { width: 14rem; max-width: 100%; }
.choose details { flex-basis: 100%; } .choose details label { margin-right: .8rem; white-space: normal; }
.choose summary { cursor: pointer; } .choose :is(input, select) { font: inherit; color: var(--ink); }
[hidden] { display: none !important; }
.box { overflow: clip; }
.said { display: block; position: sticky; bottom: 0; z-index: 2; padding: .4rem .7rem; font-size: .875rem;
  background: var(--band); border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.said:empty { display: none; }
td.read { outline: 2px solid var(--link); outline-offset: -2px; } td[title] { cursor: pointer; }
@media (max-width: 40rem) {
  main { padding: .6rem; } th, td { padding: .3rem .4rem; }
  th:first-child { white-space: normal; overflow-wrap: break-word; min-width: 6.5rem; max-width: 8rem; }
}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --band: #fff; --link: #000; }
  main { max-width: none; padding: 0; } .scroll { overflow: visible; }
  table { font-size: 7.5pt; } small { font-size: 6pt; }
  th, td { padding: .1rem .25rem; } th:first-child { position: static; white-space: normal; }
  tr, figure { break-inside: avoid; }
  .choose, .said, .pick label { display: none; } figure svg { min-width: 0; } h2 { break-after: avoid; }
}
"""

# The form is made here, as without a script it would do nothing. Parts of names: "per lin", "family:kernel" too.
SCRIPT = """
const wanted = (name, family, words) => {
  const parts = words.toLowerCase().split(/[\\s,]+/).filter(Boolean);
  const one = (part) => part.startsWith("family:") ? (family || "").toLowerCase().includes(part.slice(7))
    : name.toLowerCase().includes(part);
  return !parts.length || parts.some(one);
};
const titled = (head) => [...head.firstElementChild.childNodes].map((node) => node.textContent).join(" ");
const place = document.querySelector(".families");
if (place) {
  const family = JSON.parse(place.dataset.families), form = document.createElement("form");
  form.className = "choose";
  form.setAttribute("aria-label", "What is shown");
  form.addEventListener("submit", (event) => event.preventDefault());
  const put = (parent, tag, text, more) => {
    const made = Object.assign(document.createElement(tag), more);
    if (text) made.textContent = text;
    parent.append(made);
    return made;
  };
  const labelled = (parent, text, tag, more, first) => {
    const label = put(parent, "label"), made = document.createElement(tag);
    Object.assign(made, more);
    label.append(...(first ? [made, " " + text] : [text + " ", made]));
    return made;
  };
  const models = labelled(form, "models", "input", {type: "search", placeholder: "all; per lin family:kernel"});
  const sections = [...document.querySelectorAll("section")];
  const board = labelled(form, "board", "select");
  for (const title of ["all", ...sections.map((s) => s.querySelector("h2").textContent)])
    put(board, "option", title, {value: title});
  const floors = labelled(form, "floors", "input", {type: "checkbox", checked: true}, true);
  const heads = [...document.querySelectorAll("table.exams thead")].flatMap((h) => [...h.rows[0].cells].slice(1));
  const titles = [...new Set(heads.map(titled))], exams = put(form, "details");
  put(exams, "summary", "columns");
  const boxes = titles.map((title) => labelled(exams, title, "input", {type: "checkbox", checked: true}, true));
  place.append(form);
  const choose = () => {
    const off = new Set(titles.filter((title, i) => !boxes[i].checked));
    for (const section of sections)
      section.hidden = board.value !== "all" && board.value !== section.querySelector("h2").textContent;
    for (const row of document.querySelectorAll("tbody tr")) {
      const name = row.cells[0].textContent.replace(/^2-D: | \\u2020$/g, "");
      const rule = row.parentNode.className === "floor";
      row.hidden = rule ? !floors.checked : !wanted(name, family[name.split(" ")[0]], models.value);
    }
    for (const table of document.querySelectorAll("table.exams"))
      [...table.tHead.rows[0].cells].forEach((head, i) => {
        if (i) for (const row of table.rows) row.cells[i].hidden = off.has(titled(head));
      });
  };
  form.addEventListener("input", choose);
}
for (const box of document.querySelectorAll(".box")) {
  const said = document.createElement("output"), heads = box.querySelector("thead tr").cells;
  said.className = "said";
  box.append(said);
  const read = (event) => {
    const cell = event.target.closest("td[title]");
    if (!cell) return;
    for (const other of document.querySelectorAll("td.read")) other.classList.remove("read");
    for (const other of document.querySelectorAll(".said")) other.textContent = "";
    cell.classList.add("read");
    const name = cell.parentNode.cells[0].textContent, head = titled(heads[cell.cellIndex]);
    said.textContent = `${name}, ${head}: ${cell.title}`;
  };
  box.addEventListener("click", read);
  box.addEventListener("focusin", read);
}
"""
