"""Which runs are the same: those of the records in git as before, whatever is spelt out or added later."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra.record import record, store
from lra.runner.known import Shelf, already
from lra.settings import build, compose, identity
from lra.settings.schema import CONDITION, EXPERIMENT, Settings, kind_of
from lra.settings.typed import leaves, plain
from lra.sweep.points import curve_in
from tests.help import tiny
from tests.help.composed import settings

pytestmark = pytest.mark.xdist_group("identity")


@cache
def everything() -> list[record.Record]:
    """In git; read where it is asked for, and not by every process that collects tests."""
    return [r for _, r in store.find(tiny.ROOT / "results")]


def records(kind: str) -> list[record.Record]:
    return [r for r in everything() if r.kind == kind]


def spelt_out(r: record.Record) -> str:
    """What made two records equal before, less how many threads were asked for, which they both had."""
    part = since({k: v for k, v in r.config.items() if k not in BEFORE})
    part["task"] = {k: v for k, v in r.config["task"].items() if k not in ("data_dir", "path")}
    part["measure"] = {k: v for k, v in r.config["measure"].items() if k != "enabled"}  # a condition
    part["exam"] = {k: v for k, v in (r.config.get("exam") or {}).items() if k != "of"}  # a title's
    part["train"] = since(r.config["train"])
    part["model"] = {k: since(v) if k == "mixer" else v for k, v in r.config.get("model", {}).items()}
    return json.dumps(part, sort_keys=True)


BEFORE = {"data_dir", "results_dir", "output_dir", "rerun", "wandb", "sweep", "seed", "name", "claims", "variant"}
BEFORE |= {"cost", "minutes", "threads", "resume", "workers", "dry_run", "keep", "words", "search"}
# Added since, as it stands where nothing is said of it.
LATER = [
    ("test", True),
    ("core_minutes", None),
    ("shares", {"warmup": None, "evaluate": None, "halve": []}),
    ("persistent", 0),
]


def since(part: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in part.items() if (k, v) not in LATER}


def test_records_in_git_are_the_same_runs_as_before() -> None:
    """Among those of one schema: by how they are spelt, a run that is made again years later is another one."""
    assert len(records("model")) >= 110
    old, new = ({}, {})
    for r in records("model"):
        old.setdefault((r.schema, spelt_out(r)), set()).add(r.run_id)
        new.setdefault((r.schema, identity.identity(r.config)), set()).add(r.run_id)
    assert sorted(map(sorted, old.values())) == sorted(map(sorted, new.values()))


def test_cost_points_in_git_are_the_same_points_as_before() -> None:
    points = records("cost")
    old, new = ({}, {})
    for r in points:
        old.setdefault((r.cost["curve"], r.length), set()).add(r.run_id)
        new.setdefault((curve_in(r), r.length), set()).add(r.run_id)
    assert len(points) > 300 and sorted(map(sorted, old.values())) == sorted(map(sorted, new.values()))


def test_every_field_is_declared() -> None:
    for name, _ in leaves():
        assert kind_of(name) in (EXPERIMENT, CONDITION, "incidental")


@dataclasses.dataclass(frozen=True)
class Later(Settings):
    """What a later version may look like."""

    core_minutes: float | None = dataclasses.field(default=None, metadata={"kind": EXPERIMENT})


def test_a_later_field_changes_no_old_identity() -> None:
    for r in records("model"):
        old = identity.identity(r.config)
        assert identity.identity(r.config, Later) == old
        assert identity.identity({**r.config, "core_minutes": None}, Later) == old
        assert identity.identity({**r.config, "core_minutes": 20.0}, Later) != old


def test_a_later_key_of_a_model_changes_no_old_identity() -> None:
    config = records("model")[0].config
    more = {**config, "model": {**config["model"], "norm": "pre"}}
    assert identity.identity(more, later={"Classifier.norm": "pre"}) == identity.identity(config)
    for other in ({"Classifier.norm": "post"}, {"Transformer.norm": "pre"}, {"norm": "pre"}):
        assert identity.identity(more, later=other) != identity.identity(config)


@pytest.mark.parametrize("name", ["transformer", "linear"])
def test_an_option_at_its_default_is_as_if_it_were_not_there(name: str) -> None:
    """A run as it was recorded before a class had the option, and one that sets it."""
    now = plain(compose.config(["task=listops", f"model={name}"]))
    mixer = {k: v for k, v in now["model"]["mixer"].items() if k in ("_target_", "_partial_")}
    before = {**now, "model": {**now["model"], "mixer": mixer}}
    assert mixer != now["model"]["mixer"] and identity.identity(now) == identity.identity(before)
    for word in ("causal=true", "conv_kernel=3"):
        other = plain(compose.config(["task=listops", f"model={name}", f"model.mixer.{word}"]))
        assert identity.identity(other) != identity.identity(now) and other["variant"] == [f"model.mixer.{word}"]
    deltanet = plain(compose.config(["task=listops", "model=deltanet", "model.mixer.conv_kernel=null"]))
    del deltanet["model"]["mixer"]["conv_kernel"], deltanet["variant"]
    assert identity.identity(deltanet) != identity.identity(
        plain(compose.config(["task=listops", "model=deltanet", "model.mixer.conv_kernel=null"]))
    )


def test_a_class_counts_by_its_name_and_not_by_its_file() -> None:
    config = json.loads(json.dumps(records("model")[0].config))
    before = identity.identity(config)
    name = config["model"]["mixer"]["_target_"].rsplit(".", 1)[1]
    config["model"]["mixer"]["_target_"] = f"lra.models.elsewhere.{name}"
    assert identity.identity(config) == before
    config["model"]["mixer"]["_target_"] = f"somebody.{name}"
    assert identity.identity(config) != before


def values(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        return list(itertools.chain.from_iterable(values(v, f"{prefix}{k}.") for k, v in node.items()))
    return [(prefix.rstrip("."), node)]


def test_any_other_value_of_an_experiments_field_is_another_run() -> None:
    """Every leaf of a run's configuration, the classes' own among them, with the recorded one as neighbour."""
    settings = compose.config(["task=listops", "model=performer"])
    config = plain(settings)
    mine, tried = identity.identity(config), 0
    for name, value in values(config):
        if name in identity.PLACES or name == "seed":
            continue
        changed = json.loads(json.dumps(config))
        node = changed
        *path, last = name.split(".")
        for part in path:
            node = node[part]
        node[last] = "somebody.Else" if last == "_target_" else f"not {value}"
        same = identity.identity(changed) == mine
        assert same == (kind_of(name) != EXPERIMENT), name
        tried += 1
    assert tried > 60


def test_recorded_cells_are_recorded_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a sweep over them looks them up: by task, model, seed and threads=1, on the recorded data."""
    ours = [r for r in records("model") if r.status == "ok" and r.budget == "quick"]
    cells = {(r.task, r.model, r.seed, revised(r)): r for r in ours}
    assert len(cells) > 90
    composed: dict[tuple[str, str], Settings] = {}
    again, shelf = 0, Shelf()
    for (task, model, seed, revision), r in cells.items():
        if (task, model) not in composed:
            found = settings(f"task={task}", f"model={model}")
            composed[task, model] = replace(found, results_dir=str(tiny.ROOT / "results"), threads=1)
        standard = composed[task, model]
        exam = SimpleNamespace(fingerprint=lambda r=r: r.data["fingerprint"])
        monkeypatch.setattr(build, "task", lambda _, exam=exam: exam)
        _, found = already(replace(standard, seed=seed), shelf) or (None, None)
        if revision != standard.revision.model:  # what the model was before its numbers changed
            assert found is None or revised(found) == standard.revision.model, (task, model, seed)
            continue
        assert found is not None and (found.task, found.model, found.seed) == (task, model, seed)
        again += 1
        if again == 1:
            for change in (
                {"seed": 99}, {"threads": 7}, {"compile": True}, {"train": replace(standard.train, steps=301)},
                {"measure": replace(standard.measure, steps=11)}, {"task": {**standard.task, "max_len": 127}},
                {"revision": replace(standard.revision, model=99)},
            ):  # fmt: skip
                assert already(replace(standard, **{"seed": seed, **change}), shelf) is None, change
    assert again > 70


def revised(r: record.Record) -> int:
    """The revision of the model that a record was made with."""
    return r.config.get("revision", {}).get("model", 1)


def test_an_edited_mixer_of_ones_own_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    yaml = "# @package _global_\nmodel:\n  mixer: {_target_: edited_gate.Gate, _partial_: true}\n"
    (tmp_path / "mine" / "model" / "gate.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(tmp_path)

    def now(text: str) -> str:
        (tmp_path / "edited_gate.py").write_text(text)
        settings = compose.config(["model=gate"], str(tmp_path / "mine"))
        assert list(settings.sources) == ["edited_gate.Gate"]
        return identity.identity(plain(settings))

    first = now("class Gate: pass\n")
    assert now("class Gate:\n    edited = True\n") != first
    assert now("class Gate: pass\n") == first


def test_a_variant_is_what_differs_and_not_what_is_typed() -> None:
    def variant(*words: str) -> tuple[str, ...]:
        return compose.config(["task=listops", "model=performer", *words]).variant

    assert variant("size.dim=64", "threads=3", "device=cpu", "measure.steps=5", "seed=4") == ()
    assert variant("size.dim=32", "model.heads=4") == ("model.heads=4", "size.dim=32")
    assert variant("size.heads=4") == ("size.heads=4",)
    assert variant("task.sizes=[30,4,4]", "train.learning_rate=1e-2") == (
        "task.sizes=[30,4,4]", "train.learning_rate=0.01",
    )  # fmt: skip
    assert variant("budget=small") == () and variant("budget=small", "train.steps=7") == ("train.steps=7",)
    assert variant("~model.checkpoint") == ("~model.checkpoint",)
    assert variant("task.path=/mine/data", "task.data_dir=/mine") == (), "data are known by their fingerprint"
