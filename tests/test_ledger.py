"""The ledger: every cell as given, averages recomputed, deviations listed, bad files refused."""

from __future__ import annotations

import csv
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from lra import ledger
from lra.errors import UserError
from tests.help import tiny

PUBLISHED = tiny.ROOT / "results" / "published"


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return ledger.load(PUBLISHED)


def test_ten_of_eleven_averages_of_the_2020_table_recompute(cells: pd.DataFrame) -> None:
    rows = ledger.averages(cells).query("table == 'lra-2020-accuracy'").set_index("model")
    assert len(rows) == 11 and (rows.tasks_in_average == 5).all() and rows.avg6.isna().all()
    assert rows.agrees.sum() == 10
    wrong = rows[~rows.agrees]
    assert list(wrong.index) == ["Sinkhorn Transformer"]
    assert wrong.printed.item() == "51.39" and wrong.recomputed.item() == pytest.approx(51.476)
    assert "51.29" in wrong.note.item()


def test_averages_equal_a_plain_mean(cells: pd.DataFrame) -> None:
    """Against the definition, in fractions."""
    for row in ledger.averages(cells).itertuples():
        part = cells[(cells.table == row.table) & (cells.source == row.source) & (cells.model == row.model)]
        values = {r.task: Fraction(r.printed) for r in part.itertuples() if r.kind == "accuracy"}
        for tasks, average in ((ledger.FIVE, row.avg5), (ledger.SIX, row.avg6)):
            if all(task in values for task in tasks):
                assert average == pytest.approx(float(sum(values[t] for t in tasks) / len(tasks)))
            else:
                assert pd.isna(average), f"{row.model}: an average over missing cells"


def test_the_deviations_are_listed(cells: pd.DataFrame) -> None:
    wrong = ledger.deviations(cells)
    assert set(wrong.model) == {"Sinkhorn Transformer", "LION-S (HIPPO)", "LION-D (HIPPO)", "RWKV-4"}
    said = subprocess.run(
        [tiny.sys.executable, "-m", "lra.ledger"], capture_output=True, text=True, cwd=tiny.ROOT, check=True
    ).stdout
    assert all(model in said for model in wrong.model) and "51.476" in said


def test_a_half_rounds_either_way_and_a_digit_more_does_not() -> None:
    def agrees(printed: str, *values: str) -> bool:
        rows = [("m", task, value, 5) for task, value in zip(ledger.FIVE, values, strict=True)]
        made = pd.DataFrame(
            [*rows, ("m", "average", printed, 5)], columns=["model", "task", "printed", "tasks_in_average"]
        )
        table = made.assign(kind="accuracy", table="t", source="s", ours=pd.NA, note=pd.NA)
        return bool(ledger.averages(table).agrees.item())

    five = ("10.00", "10.00", "10.00", "10.00", "10.025")  # mean 10.005
    assert agrees("10.00", *five) and agrees("10.01", *five)
    assert not agrees("10.02", *five) and not agrees("9.99", *five)
    assert agrees("10", *five) and not agrees("10.000", *five)


def test_fail_is_no_number(tmp_path: Path) -> None:
    write(tmp_path, [cell(task="pathx", printed="FAIL"), *(cell(task=t) for t in ledger.FIVE)])
    loaded = ledger.load(tmp_path)
    assert loaded.set_index("task").value.isna()["pathx"]
    row = ledger.averages(loaded).iloc[0]
    assert pd.isna(row.avg6) and row.avg5 == 50


def test_costs_are_relative_to_the_transformer_at_the_same_length(cells: pd.DataFrame) -> None:
    costs = ledger.costs(cells).set_index(["model", "length"])
    assert len(costs) == 36
    assert costs.relative_speed[("Performer", 4000)] == pytest.approx(8.0 / 1.4)
    assert costs.relative_memory[("BigBird", 1000)] == pytest.approx(0.77 / 0.85)
    shown = ledger.figure_3(cells).set_index("model")
    assert len(shown) == 11 and shown.loc[["Longformer", "Sparse Transformer"], "relative_speed"].isna().all()
    assert shown.step_peak_bytes["Transformer"] == 9.48e9 and shown.accuracy["BigBird"] == pytest.approx(0.55012)


def test_flags_of_the_2020_table(cells: pd.DataFrame) -> None:
    table = cells[cells.table == "lra-2020-accuracy"].set_index(["model", "task"]).loc["Performer"]
    assert table.loc["text", "val_is_test"] == "yes" and table.loc["text", "length"] == "1000|2000|3000|4000"
    assert table.loc["image", "colour"] == "grey" and table.loc["image", "val_is_test"] == "no"
    assert cells.seeds.isna().all(), "no source says how many seeds"
    named = set(cells.ours.dropna())
    assert named <= {p.stem for p in (tiny.ROOT / "configs" / "model").glob("*.yaml")}


@pytest.mark.shared
def test_every_given_cell_is_there_and_no_other(shared_data: Path, cells: pd.DataFrame) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with (shared_data.parent / "reference" / name).open(newline="") as handle:
            return list(csv.DictReader(handle))

    given = Counter(
        (r["model"], {"avg": "average"}.get(r["task"], r["task"]), "accuracy", r["accuracy"])
        for r in rows("lra-paper-accuracy.csv")
    )
    for r in rows("lra-paper-efficiency.csv"):
        for kind, column in (("speed", "steps_per_second"), ("memory", "peak_memory_gb")):
            given[(r["model"], f"text {r['sequence_length']}", kind, r[column])] += 1
    ours = Counter(
        (r.model, r.task if r.kind == "accuracy" else f"text {r.length}", r.kind, r.printed) for r in cells.itertuples()
    )
    assert ours == given


def cell(**values: str) -> dict[str, str]:
    base = dict.fromkeys(ledger.COLUMNS, "")
    return base | {
        "model": "m", "task": "text", "kind": "accuracy", "printed": "50", "unit": "%", "source": "s",
        "second_hand": "no",
    } | values  # fmt: skip


def write(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "t.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ledger.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"printed": "5O"}, "line 3: printed '5O'; allowed a number or FAIL"),
        ({"printed": "nan"}, "line 3: printed 'nan'"),
        ({"kind": "acc"}, "line 3: kind 'acc'; allowed accuracy, speed, memory"),
        ({"seeds": "1.5"}, "line 3: seeds '1.5'"),
        ({"source": ""}, "line 3: source is empty"),
        ({"task": "image"}, "line 3: m, image, accuracy is there twice"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, values: dict[str, str], said: str) -> None:
    write(tmp_path, [cell(task="image"), cell(**values)])
    with pytest.raises(UserError) as error:
        ledger.load(tmp_path)
    assert said in str(error.value)


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,accuracy\na,1\n")
    with pytest.raises(UserError, match="columns model,accuracy"):
        ledger.load(tmp_path)


def test_no_ledger_is_an_empty_one(tmp_path: Path) -> None:
    empty = ledger.load(tmp_path)
    assert (
        empty.empty and ledger.averages(empty).empty and ledger.figure_3(empty).empty and ledger.deviations(empty).empty
    )
