"""Each option that takes a mechanism away or adds one, from the words to a record of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra.record import store
from lra.runner.run import recorded
from lra.settings import build, compose
from tests.help import tiny

SHORT = (
    "task=recall_adjacent", "budget=ability", "task.max_len=20", "task.pairs=2", "task.queries=4", "task.sizes=[8,16]",
    "train.batch_size=4", "train.rates=[]", "train.halve_at=[]", "train.learning_rate=1e-3", "train.steps=2",
    "train.eval_every=2", "train.warmup_steps=1", "train.stop_at=null", "size.dim=16", "size.qkv_dim=16",
    "size.mlp_dim=16",
    "size.depth=1", "measure.enabled=false", "threads=1",
)  # fmt: skip
OPTIONS = {
    "transformer": ("conv_kernel=3", "causal=true"),
    "linear": ("conv_kernel=3", "causal=true"),
    "deltanet": ("conv_kernel=null", "negative_eigenvalues=true", "steps=2"),
}
OFTEN = (("linear", "conv_kernel=3"), ("transformer", "causal=true"), ("deltanet", "steps=2"))
POSITIONS = [
    pytest.param("transformer", "size.position=sinusoidal", "sinusoidal", marks=pytest.mark.slow),
    ("transformer", "size.position=none", "none"),
    ("deltanet", "model.position=sinusoidal", "sinusoidal"),
]


@pytest.mark.parametrize(("model", "option"), [
    pytest.param(m, o, marks=() if (m, o) in OFTEN else pytest.mark.slow)
    for m, options in OPTIONS.items() for o in options
])  # fmt: skip
def test_a_mechanism_is_taken_away_or_added(model: str, option: str, tmp_path: Path) -> None:
    places = [w for w in tiny.words(tmp_path) if w.split("=")[0].endswith("_dir")]
    usual = compose.config([*SHORT, f"model={model}"])
    settings = compose.config([*places, *SHORT, f"model={model}", f"model.mixer.{option}"])
    name, _, value = option.partition("=")
    before, now = (str(each.model["mixer"][name]).lower() for each in (usual, settings))
    assert (before, now) == (
        {"3": "none", "null": "4", "true": "false", "2": "1"}[value],
        value.replace("null", "none"),
    )
    record = recorded(settings)
    assert record.status == "ok" and f"model.mixer.{option}" in record.variant and record.steps_done == 2
    assert not record.contract["broken"] and record.state_floats > 0
    assert len([r for _, r in store.find(tmp_path / "results") if r.kind == "model"]) == 1


@pytest.mark.parametrize(("model", "word", "position"), POSITIONS)
def test_another_position_code_reaches_the_model(model: str, word: str, position: str, tmp_path: Path) -> None:
    """`size.position` is for models whose file says nothing of it; the others take `model.position`."""
    places = [w for w in tiny.words(tmp_path) if w.split("=")[0].endswith("_dir")]
    settings = compose.config([*places, *SHORT, f"model={model}", word])
    net = build.model(settings, build.task(settings))
    assert net.position == position and (net.positions is None) == (position == "none")
    assert recorded(settings).status == "ok"
