"""BigBird against its pattern."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lra.models.bigbird import BigBird, ExtraTokens
from lra.models.classifier import Classifier
from tests.help.compare import assert_mixer
from tests.help.dense import assert_dense


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 120),
    block=st.sampled_from([1, 8, 16, 64]),
    window_blocks=st.sampled_from([1, 3]),
    global_blocks=st.integers(0, 3),
    random_blocks=st.integers(0, 3),
    extra_tokens=st.sampled_from([0, 0, 4]),
    shared_links=st.booleans(),
)
def test_equals_its_pattern(seed, length, extra_tokens, **options) -> None:
    torch.manual_seed(seed)
    layer = BigBird(12, 3, 120, extra_tokens=extra_tokens, rotary=seed % 5 == 0, **options)
    assert_dense(layer, length, seed)


def test_what_a_block_sees() -> None:
    torch.manual_seed(0)
    layer = BigBird(8, 2, 16 * 20, block=16)
    blocks = layer.pattern(320).view(2, 20, 16, 20, 16)
    assert torch.equal(blocks.any(4).any(2), blocks.all(4).all(2)), "blocks are seen whole"
    seen = blocks[:, :, 0, :, 0]
    assert seen[:, [0, 19]].all() and seen[:, :, [0, 19]].all(), "the first and the last are global"
    # Two global, three around, three random; beside a global block the window overlaps it.
    assert seen[:, 2:18].sum(-1).eq(8).all() and seen[:, [1, 18]].sum(-1).eq(7).all()
    assert not torch.equal(seen[0], seen[1]), "every head draws its own links"
    assert torch.equal(*BigBird(8, 2, 320, block=16, shared_links=True).pattern(320))


def test_links_come_from_the_seed_and_stay() -> None:
    def links(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return BigBird(8, 2, 640, block=16).links

    assert torch.equal(links(1), links(1)) and not torch.equal(links(1), links(2))
    torch.manual_seed(1)
    layer = BigBird(8, 2, 640, block=16)
    x, mask = torch.randn(1, 640, 8), torch.ones(1, 640, dtype=torch.bool)
    other = BigBird(8, 2, 640, block=16)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x, mask), other(x, mask))


def test_shorter_input_is_the_padded_one() -> None:
    torch.manual_seed(0)
    layer = BigBird(8, 2, 320, block=16)
    x, mask = torch.randn(2, 320, 8), torch.arange(320).expand(2, -1) < 150
    torch.testing.assert_close(layer(x[:, :150], mask[:, :150]), layer(x, mask)[:, :150], rtol=0, atol=1e-6)


def test_extra_tokens_go_through_the_layers() -> None:
    torch.manual_seed(0)
    mixer = partial(BigBird, dim=8, heads=2, max_len=64, block=8, global_blocks=0, random_blocks=0, extra_tokens=3)
    stack = ExtraTokens(lambda layer, shared: mixer(), depth=2, dim=8, mlp_dim=16, extra_tokens=3).eval()
    leaf = torch.randn(1, 64, 8, requires_grad=True)
    mask = torch.ones(1, 64, dtype=torch.bool)
    y = stack(leaf, mask)
    assert y.shape == leaf.shape
    # Two layers, blocks of 8: only by way of an extra token does the last position hear the first.
    (grad, extra) = torch.autograd.grad(y[0, 63, 0], (leaf, stack.extra))
    assert grad[0, 0].abs().sum() > 0 and (extra.abs().sum(-1) > 0).all()
    padded = mask & (torch.arange(64) < 40)
    torch.testing.assert_close(stack(leaf[:, :40], padded[:, :40]), stack(leaf, padded)[:, :40], rtol=0, atol=1e-5)


def test_etc_classifies() -> None:
    """As a configuration builds it: the comment in configs/model/bigbird.yaml."""
    mixer = partial(BigBird, block=8, global_blocks=0, extra_tokens=4)
    model = Classifier(
        20, 3, 60, mixer, partial(ExtraTokens, extra_tokens=4), depth=1, dim=16, heads=2, mlp_dim=16, pooling="cls"
    )
    tokens = torch.randint(1, 20, (2, 60))
    model(tokens, tokens > 3).sum().backward()
    assert model.stack.extra.grad.abs().sum() > 0


def test_contract() -> None:
    assert_mixer(lambda **facts: BigBird(**facts, block=4))


@pytest.mark.parametrize(
    ("field", "value"), [("block", 0), ("window_blocks", 2), ("random_blocks", -1), ("extra_tokens", -1)]
)
def test_bad_values(field, value) -> None:
    with pytest.raises(ValueError, match=rf"model\.mixer\.{field}: {value} "):
        BigBird(8, 2, 16, **{field: value})
    with pytest.raises(ValueError, match="length 17 is above max_len 16"):
        BigBird(8, 2, 16)(torch.randn(1, 17, 8), torch.ones(1, 17, dtype=torch.bool))
