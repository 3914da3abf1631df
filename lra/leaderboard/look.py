"""How the HTML page looks and sorts."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --page: #ffffff; --band: #f6f8fa;
  --link: #0550ae; --bad: #a40e26; --heat: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #3d444d; --page: #0d1117;
  --band: #161b22; --link: #79b8ff; --bad: #ff8f85; --heat: #3d9be0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 84rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; overflow-wrap: anywhere; }
.lead { color: var(--soft); margin-top: 0; }
a { color: var(--link); text-decoration: none; } a:hover, a:focus { text-decoration: underline; }
.box { border: 1px solid var(--line); border-radius: 6px; margin: 0 0 1.2rem; overflow: hidden; }
.box p { margin: 0; padding: .5rem .7rem; color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line);
  vertical-align: top; line-height: 1.35; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); z-index: 1; font-weight: 600; }
thead th, thead th:first-child { background: var(--band); vertical-align: bottom; }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: .2rem 0;
  cursor: pointer; text-align: inherit; line-height: 1.25; }
thead button:hover, thead button:focus-visible { text-decoration: underline; }
thead small { display: block; font-weight: 400; white-space: normal; max-width: 7.5rem; }
th:not(:first-child) small { margin-left: auto; }
th[aria-sort=ascending] button::after { content: " \\25B2"; font-size: .7em; }
th[aria-sort=descending] button::after { content: " \\25BC"; font-size: .7em; }
small { color: var(--soft); font-size: .8125rem; }
.more { display: block; }
tbody tr:hover td, tbody tr:hover th { background: var(--band); }
tbody.floor th, tbody.variant th { font-weight: 400; } tbody.floor { color: var(--soft); }
tbody + tbody tr:first-child > * { border-top: 2px solid var(--soft); }
.none { color: var(--soft); text-align: center; } .failure, .failure a { color: var(--bad); font-weight: 600; }
.heat { background: color-mix(in srgb, var(--heat) calc(var(--s) * 40%), transparent); }
.odd { font-weight: 600; }
figure { margin: 0 0 1.2rem; overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
figure svg { display: block; width: 100%; height: auto; min-width: 44rem; max-width: 66rem; margin: 0 auto; }
.notes { color: var(--soft); font-size: .875rem; padding-left: 1.2rem; max-width: 60rem; }
.notes li { margin: .2rem 0; }
"""

# Sorts by data-value where there is one, else by text; what is missing stays last either way.
SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => i ? parseFloat(row.cells[i].dataset.value) : row.cells[0].textContent;
  heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => {
    const down = head.ariaSort ? head.ariaSort === "ascending" : i > 0;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    for (const body of table.tBodies) {
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a, i), y = key(b, i);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      });
      body.append(...rows);
    }
  }));
}
"""
