"""The bubble chart of a page whose axes its reader picks: the numbers, and the script that draws them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from lra.marks.means import averaged, of_sequences, one_an_exam, standard
from lra.plot.choice import AREA, DEFAULT, Choice, X, Y, with_choice
from lra.results import Results

MEANS = ("accuracy", "skill")  # columns that are means over tasks
FEWEST = 2  # models that a chart is of
CHOICES = (DEFAULT, Choice("core_seconds"), Choice(y="reach"), Choice(y="learnt"))  # what brings all columns together


def picked(part: pd.DataFrame, results: Results, dtype: str) -> list[dict[str, Any]]:
    """Of the cells of one group, a row a model that has sat all exams of its averages: its name, and what is known of
    the columns of all axes."""
    usual = of_sequences(standard(part))
    cells = one_an_exam(usual)
    summed = averaged(cells)
    whole = summed[(summed.tasks == summed.of) & (summed.tasks > 0)]
    if len(whole) < FEWEST:
        return []
    frames = [with_choice(whole, cells, results, choice, dtype) for choice in CHOICES]
    stand_ins = " (stand-ins)" * any(cell.row != cell.exam.of for cell in cells.itertuples())
    over = f", mean over {int(whole.of.max())} tasks{stand_ins}"
    out = [{"model": name, "over": over} for name in whole.model]
    for axis in (*X.values(), *Y.values(), *AREA.values()):
        values = next(frame[axis.column] for frame in frames if axis.column in frame)
        for point, value in zip(out, values, strict=True):
            point[axis.column] = None if pd.isna(value) else float(f"{axis.scale * value:.6g}")
    return out


def data(points: Sequence[Mapping[str, Any]], of: str) -> str:
    """What the script reads: the points, and each axis that at least FEWEST of them have a number for."""

    def known(axes: Mapping[str, Any]) -> list[dict[str, Any]]:
        some = [a for a in axes.values() if sum(p.get(a.column) is not None for p in points) >= FEWEST]
        words = [a.words.format(of=of, to="the best local floor") + ", %" * (a.scale == 100) for a in some]
        words = [text + points[0]["over"] * (a.column in MEANS) for text, a in zip(words, some, strict=True)]
        return [asdict(a) | {"words": text} for a, text in zip(some, words, strict=True)]

    axes = {"x": known(X), "y": known(Y), "area": known(AREA)}
    return json.dumps({"points": list(points), "axes": axes}, separators=(",", ":")) if all(axes.values()) else ""


STYLE = """
.pick { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; margin: 0 0 1.2rem; max-width: 46rem; }
.pick label { margin-right: 1rem; color: var(--soft); font-size: .875rem; } .pick select { max-width: 14rem; }
.pick svg { display: block; width: 100%; } .pick text { fill: var(--ink); font-size: 11px; }
.pick .soft { fill: var(--soft); } .pick line, .pick polyline { stroke: var(--line); fill: none; }
.pick polyline { stroke: var(--soft); } .pick circle { fill: var(--heat); fill-opacity: .35; stroke: var(--heat); }
"""

# Names are texts and never markup; colours are those of the page, light or dark. The front as lra.marks.front has it.
SCRIPT = """
for (const box of document.querySelectorAll(".pick")) {
  const {points, axes} = JSON.parse(box.dataset.points);
  const add = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const name in attributes) made.setAttribute(name, attributes[name]);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const picks = ["x", "y", "area"].map((part) => {
    const label = document.createElement("label"), select = document.createElement("select");
    label.textContent = part + " ";
    axes[part].forEach((axis, i) => {
      const option = document.createElement("option");
      option.value = i;
      option.textContent = axis.words;
      select.append(option);
    });
    label.append(select);
    box.append(label);
    select.addEventListener("change", () => draw());
    return () => axes[part][select.value || 0];
  });
  const svg = add("svg", {role: "img"});
  box.append(svg);
  const short = (v) => {
    const [size, sign] = [[1e9, "G"], [1e6, "M"], [1e4, "k"]].find(([least]) => v >= least) || [1, ""];
    return +(v / (sign === "k" ? 1e3 : size)).toPrecision(4) + sign;
  };
  const scaled = (values, log, from, to) => {
    const on = log ? Math.log10 : (v) => v, least = Math.min(...values.map(on)), most = Math.max(...values.map(on));
    const pad = 0.12 * (most - least) || 0.5, low = least - pad, high = most + pad;
    const place = (v) => from + (on(v) - low) / (high - low) * (to - from), ticks = [];
    if (log) {
      const some = high - low > 2 ? [1] : high - low > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
      for (let e = Math.floor(low); e <= high; e++) ticks.push(...some.map((m) => m * 10 ** e));
    } else {
      const power = 10 ** Math.floor(Math.log10((high - low) / 3)), step = power * ((high - low) / power > 12 ? 5 : 2);
      for (let t = Math.ceil(low / step); t * step <= high; t++) ticks.push(+(t * step).toPrecision(6));
    }
    return {place, ticks: ticks.filter((t) => on(t) > low && on(t) < high)};
  };
  const draw = () => {
    const [x, y, area] = picks.map((pick) => pick());
    const wide = Math.max(320, Math.min(720, box.clientWidth || 640)), high = 380, left = 46, bottom = 336;
    const known = points.filter((p) => [x, y, area].every((axis) => p[axis.column] != null));
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    const words = x.words + (x.log ? ", log scale" : "");
    svg.append(add("text", {x: wide / 2, y: high - 8, "text-anchor": "middle"}, words));
    svg.append(add("text", {x: 4, y: 12}, `${y.words}; area: ${area.words}`));
    if (!known.length) return;
    const across = scaled(known.map((p) => p[x.column]), x.log, left, wide - 8);
    const up = scaled(known.map((p) => p[y.column]), y.log, bottom, 24);
    for (const t of across.ticks) {
      svg.append(add("line", {x1: across.place(t), x2: across.place(t), y1: 24, y2: bottom}));
      svg.append(add("text", {x: across.place(t), y: bottom + 14, "text-anchor": "middle", class: "soft"}, short(t)));
    }
    for (const t of up.ticks) {
      svg.append(add("line", {x1: left, x2: wide - 8, y1: up.place(t), y2: up.place(t)}));
      svg.append(add("text", {x: left - 5, y: up.place(t) + 4, "text-anchor": "end", class: "soft"}, short(t)));
    }
    const largest = Math.max(...known.map((p) => p[area.column]));
    const at = known.map((p) => ({
      name: p.model, better: x.better * p[x.column], worth: p[y.column],
      x: across.place(p[x.column]), y: up.place(p[y.column]), r: 16 * Math.sqrt(p[area.column] / largest),
    }));
    const front = at.filter((p) => !at.some((q) => q.better >= p.better && q.worth >= p.worth
      && (q.better > p.better || q.worth > p.worth))).sort((p, q) => q.worth - p.worth);
    const line = front.flatMap((p, i) => i ? [`${front[i - 1].x},${p.y}`, `${p.x},${p.y}`] : [`${p.x},${p.y}`]);
    svg.append(add("polyline", {points: line.join(" ")}));
    for (const p of [...at].sort((p, q) => q.r - p.r)) {
      const dot = add("circle", {cx: p.x, cy: p.y, r: p.r});
      dot.append(add("title", {}, `${p.name}: ${short(Math.abs(p.better))}, ${short(p.worth)}`));
      svg.append(dot);
    }
    const taken = [];
    for (const p of [...at].sort((p, q) => p.y - q.y)) {
      const right = p.x < 0.7 * wide, long = 6.2 * p.name.length, from = right ? p.x + p.r + 3 : p.x - p.r - 3 - long;
      let level = p.y + 4;
      while (taken.some(([a, b, c]) => Math.abs(c - level) < 11 && a < from + long && from < b)) level += 4;
      taken.push([from, from + long, level]);
      const place = {x: right ? from : from + long, y: level, "text-anchor": right ? "start" : "end"};
      svg.append(add("text", place, p.name));
    }
  };
  window.addEventListener("resize", draw);
  draw();
}
"""
