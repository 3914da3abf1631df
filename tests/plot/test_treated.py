"""What treatments did, in a table's rows and in a chart with arrows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib
import pandas as pd
import pytest

from lra.leaderboard import markdown
from lra.marks import derived, runs
from lra.plot import style
from lra.plot.treated import treated
from lra.record.record import Record
from lra.treat.table import cells

BASE = Record("20260101T000000Z-a", "2026", "derived", "ok", "shift", "linear", "treat", "shift", 0, {}, "0")


def made(name: str, parent: str, accuracy: float, rate: float | None, peak: float = 1.0, **more: Any) -> Record:
    said: dict[str, Any] = {
        "flipped": 0.1, "difference": {"value": accuracy - 0.9, "low": -0.1, "high": 0.1, "p": 0.5},
        "loss": {"value": 0.1, "low": 0.0, "high": 0.2}, "facts": {"executed": rate is not None}, "inference": [],
    }  # fmt: skip
    if rate is not None:
        sides = {
            "parent": {"examples_per_second": 100.0, "peak_bytes": 2**20},
            "child": {"examples_per_second": 100 * rate, "peak_bytes": peak * 2**20},
        }
        ratio = {"value": rate, "low": rate / 1.1, "high": rate * 1.1}
        said["inference"] = [{"batch_size": n, **sides, "ratio": ratio, "peak_ratio": peak} for n in (32, 1)]
    treatment = {"name": name, "words": [], "settings": {}}
    machine = {"name": "A", "device": "cpu"}
    about = {"accuracy_test": accuracy, "dtype": "float32", "machine": machine, "treatment": treatment}
    return replace(BASE, run_id=f"id-{name}", parent=parent, derived=said, **about, **more)


def frame(*records: Record) -> pd.DataFrame:
    trained = pd.DataFrame([[None] * len(runs.COLUMNS)], columns=runs.COLUMNS)
    trained = trained.assign(run_id="id-root", accuracy=0.9)
    return derived.frame([derived.row(r, False) for r in records], trained)


RECORDS = (
    made("bf16", "id-root", 0.89, 2.0, 0.5),
    made("heads", "id-root", 0.8, 1.5),
    made("svd", "id-heads", 0.7, 1.2),
    made("kmeans4", "id-root", 0.85, None),
    replace(made("neurons", "id-root", 0.85, None), status="failed", reason="treating it: no", derived={}),
)


def test_a_speed_up_is_beside_the_better_of_bf16_and_compiled() -> None:
    table = frame(*RECORDS).set_index("run_id")
    assert table.chain["id-svd"] == "heads > svd" and pd.isna(table.over["id-svd"]) and pd.isna(table.over["id-bf16"])
    over = table.loc["id-heads"]
    assert abs(over.over - 0.75) < 1e-9 and abs(over.over_high / over.over - 1.1 ** (2**0.5)) < 1e-9
    quicker = frame(*RECORDS, made("compile", "id-root", 0.9, 3.0)).set_index("run_id")
    assert abs(quicker.over["id-heads"] - 0.5) < 1e-9
    newest = frame(*RECORDS, replace(RECORDS[1], run_id="id-heads2", accuracy_test=0.5))
    assert set(newest[newest.option == "heads"].accuracy) == {0.5}


def test_rows_of_what_is_imitated_and_of_what_failed() -> None:
    rows = {r.run_id: cells(r) for r in frame(*RECORDS).itertuples()}
    assert rows["id-kmeans4"][6:8] == ["imitated", "-"] and rows["id-heads"][6] == "1.50 (1.36 to 1.65)"
    assert rows["id-neurons"][1] == "failed: treating it: no" and set(rows["id-neurons"][2:]) == {"-"}


def test_the_markdown_of_the_boards_has_them() -> None:
    text = markdown.render([], treated=frame(*RECORDS))
    assert "## What treatments do" in text and "What treatments" not in markdown.render([], treated=frame(*RECORDS)[:0])
    assert (
        "| shift | linear > heads | svd | 70.00 % | -20.00 (-10.00 to +10.00) | 10.00 % | 1.20 (1.09 to 1.32) |" in text
    )
    assert "| kmeans4 | 85.00 % | -5.00 (-10.00 to +10.00) | 10.00 % | imitated | - | - |" in text
    assert "| neurons | failed | treating it: no | - | - | - | - |" in text


def test_arrows_lead_from_a_parent_to_its_children() -> None:
    points = derived.places(frame(*RECORDS)).set_index("id")
    assert set(points.index) == {"id-root", "id-bf16", "id-heads", "id-svd"}
    assert points.speed["id-svd"] == 100 * 1.5 * 1.2 and points.peak_bytes["id-bf16"] == 2**19
    with matplotlib.rc_context({"font.size": 30.0}):
        figure = treated(points.reset_index(), "What treatments do")
    assert {text.get_fontsize() for text in figure.axes[0].get_xticklabels()} == {style.SMALL}, "settings of ours alone"
    (axes,) = [a for a in figure.axes if a.get_title(loc="left") == "shift"]
    arrows = [t for t in axes.texts if getattr(t, "arrow_patch", None) is not None and not t.get_text()]
    assert len(arrows) == 3
    faces = axes.collections[0].get_facecolors()
    assert sum(face[3] > 0 for face in faces) == 1 and len(axes.collections[0].get_offsets()) == 4
    assert {"linear", "bf16", "heads", "svd"} <= {t.get_text() for t in axes.texts}


def test_a_parent_stands_on_each_machine_by_what_it_took_there() -> None:
    there = replace(made("packed", "id-root", 0.9, 1.1), machine={"name": "B", "device": "cpu"})
    for side in there.derived["inference"]:
        side["parent"]["examples_per_second"] = 800.0
    table = frame(*RECORDS, there)
    points = derived.places(table).set_index(["machine", "id"])
    assert dict(points.speed["B"]) == {"id-root": 800.0, "id-packed": pytest.approx(880.0)}
    assert points.speed["A", "id-root"] == 100.0
    assert pd.isna(table.set_index("run_id").over["id-packed"]), "bf16 was timed on the other one"
