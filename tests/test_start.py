"""What a run need not load it does not load: its start is most of what a short one takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lra.models.parts.eager import eager
from lra.settings.typed import plain
from lra.train.optim import optimizer
from lra.uncompiled import uncompiled
from tests.help import tiny

# The phases of a run and the measuring process, one after the other in a process that has loaded nothing before.
CODE = """
import json, sys
from lra.measure.child import prepared, warmed
from lra.runner.run import run
from lra.settings.typed import typed
settings = typed(json.loads(sys.stdin.read()))
assert run(settings) == 0 and warmed(prepared(settings), 60.0) is None
heavy = {"torch._dynamo", "torch._inductor", "accelerate", "datasets", "pandas", "scipy.stats", "wandb"}
print(sorted(heavy & set(sys.modules)))
"""


def test_a_run_that_compiles_nothing_loads_no_compiler(tmp_path: Path) -> None:
    words = ("model=transformer", "measure.enabled=false", "size.attention_dropout=0.1", "device=cpu")
    settings = json.dumps(plain(tiny.config(tmp_path, *words)))
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=settings, capture_output=True, text=True, env=tiny.environment()
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_what_is_told_of_the_compiler_is_forgotten() -> None:
    """Also by functions that something has asked about before."""
    wrapped = torch._disable_dynamo(lambda x: x + 1)
    inner = wrapped.__wrapped__
    before = "torch._dynamo" in sys.modules
    with uncompiled():
        assert before or wrapped(1) == 2
    assert not hasattr(inner, "__dynamo_disable") and ("torch._dynamo" in sys.modules) == before


def test_what_is_eager_stays_out_of_a_compiled_program() -> None:
    seen, graphs = [], []

    @eager
    def looped(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.compiler.is_compiling())
        for _ in range(3):
            x = x.sin()
        return x

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append({node.target.__name__ for node in graph.graph.nodes if node.op.startswith("call")})
        return graph.forward

    run = torch.compile(lambda x: looped(x * 2) + 1, backend=backend)
    x = torch.ones(2)
    for _ in range(3):
        assert torch.equal(run(x), (x * 2).sin().sin().sin() + 1)
    assert graphs == [{"mul"}, {"add"}] and seen == [False] * 3


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_optimizer_is_torchs(tmp_path: Path, decay: float) -> None:
    """Step by step, states that are saved and loaded among them."""
    train = tiny.config(tmp_path, f"train.weight_decay={decay}").train
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    mine = optimizer(ours, train)
    same = {"betas": tuple(train.betas), "eps": train.eps, "weight_decay": decay, "fused": True}
    other = torch.optim.AdamW(theirs.parameters(), train.learning_rate, **same)
    for step in range(6):
        for net, opt in ((ours, mine), (theirs, other)):
            net(torch.full((2, 5), float(step))).square().sum().backward()
            opt.step()
            opt.zero_grad()
        if step == 2:
            again = optimizer(ours, train)
            again.load_state_dict(mine.state_dict())
            mine = again
        assert all(p.grad is None and p.requires_grad for p in ours.parameters())
        assert all(map(torch.equal, ours.parameters(), theirs.parameters())), step
