"""How often a compiled net is broken off: once, to see whether its mask hides anything, and never in a layer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lra.models.parts.heads import Full, Ragged, all_real, led, told
from tests.treatments.test_packed import batch, made


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("transformer", ("size.pooling=cls",)),
        pytest.param("linear", (), marks=pytest.mark.slow),
        pytest.param("performer", (), marks=pytest.mark.slow),
        pytest.param("s4d", (), marks=pytest.mark.slow),
    ],
)
def test_a_compiled_net_is_broken_off_once(model: str, words: tuple[str, ...]) -> None:
    """And has one program for either kind of mask, which answers as it does uncompiled."""
    from torch import _dynamo as dynamo
    from torch._dynamo.utils import counters

    net, (tokens, mask) = made(model, *words), batch()
    dynamo.reset()
    counters.clear()
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        for _ in range(2):
            for each in (mask, torch.ones_like(mask)):
                torch.testing.assert_close(compiled(tokens, each), net(tokens, each), rtol=0, atol=1e-6)
    assert sum(counters["graph_break"].values()) == 1
    assert counters["stats"]["unique_graphs"] == 3  # the look at the mask, and a net for either kind
    dynamo.reset()


@pytest.mark.parametrize("model", ["transformer", "etc"])
def test_every_mixer_is_told_of_the_mask(model: str) -> None:
    """Through what a classifier and a stack put in front."""
    net, (tokens, mask) = made(model, *(("size.pooling=cls",) if model == "transformer" else ())), batch()
    kinds: list[type] = []
    for layer in net.stack.layers:
        layer.mixer.register_forward_pre_hook(lambda m, given: kinds.append(type(given[1])))
    with torch.no_grad():
        net(tokens, mask)
        net(tokens, torch.ones_like(mask))
    assert kinds == [Ragged, Ragged, Full, Full]


def test_what_is_known_is_of_that_mask_alone() -> None:
    mask, full = batch()[1], torch.ones(2, 9, dtype=torch.bool)
    assert all_real(told(full, True)) and not all_real(told(mask, False)) and all_real(full) and not all_real(mask)
    made_of_it = (
        told(full, True)[:, :3],
        ~told(full, True),
        told(full, True) & told(full, True),
        told(full, True)[None],
    )
    assert all(type(each) is Tensor for each in made_of_it) and not all_real(~told(full, True))
    assert all_real(told(mask, False)[:1, :1])  # of a ragged one too
    for each, kind in ((told(full, True), Full), (told(mask, False), Ragged), (mask, Tensor)):
        more = led(each, 2)
        assert type(more) is kind and more.shape[1] == each.shape[1] + 2 and torch.equal(more[:, 2:], each + False)
        assert more[:, :2].all()


def test_a_program_is_told_or_takes_the_path_of_every_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compiler", SimpleNamespace(is_compiling=lambda: True))
    full = torch.ones(2, 3, dtype=torch.bool)
    assert not all_real(full) and all_real(told(full, True))
