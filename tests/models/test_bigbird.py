"""BigBird against its pattern."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models.bigbird import BigBird, ExtraTokens
from lra.models.classifier import Classifier
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_normal, patterned, some_mask


def sees(
    layer: BigBird, length: int, *, block: int, window_blocks: int, global_blocks: int, extra_tokens: int
) -> Tensor:
    """(H, L, L), section 2, one pair of blocks at a time; only the random links are the layer's own."""
    blocks = -(-120 // block)  # the links, and which block is the last, are those of the longest input
    first = set(range((global_blocks + 1) // 2)) | set(range(blocks - global_blocks // 2, blocks))
    number = [(p - extra_tokens) // block if p >= extra_tokens else -1 for p in range(length)]
    seen = torch.zeros(layer.heads, length, length, dtype=torch.bool)
    for h in range(layer.heads):
        pairs = torch.ones(blocks, blocks, dtype=torch.bool)
        links = layer.links[h % len(layer.links)].tolist()
        for a in range(blocks):
            for b in range(blocks):
                pairs[a, b] = abs(a - b) <= (window_blocks - 1) / 2 or a in first or b in first or b in links[a]
        at = torch.tensor(number)
        seen[h] = pairs[at.clamp(min=0)][:, at.clamp(min=0)] | (at < 0) | (at < 0)[:, None]
    return seen


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
@example(
    seed=7, length=120, block=8, window_blocks=3, global_blocks=2, random_blocks=3, extra_tokens=4, shared_links=False
)
@example(
    seed=8, length=90, block=8, window_blocks=1, global_blocks=0, random_blocks=1, extra_tokens=4, shared_links=True
)
@example(
    seed=9, length=113, block=8, window_blocks=3, global_blocks=3, random_blocks=1, extra_tokens=0, shared_links=False
)
def test_equals_its_pattern(seed, length, random_blocks, shared_links, **options) -> None:
    torch.manual_seed(seed)
    rotary = seed % 5 == 0
    more = {"random_blocks": random_blocks, "shared_links": shared_links, "qkv_dim": 12, "rotary": rotary}
    layer = BigBird(15, 3, 120, **more, **options)
    seen = sees(layer, length, **options)
    assert torch.equal(layer.pattern(length), seen)
    assert_equation(layer, patterned(3, seen, rotary), torch.randn(2, length, 15), some_mask(2, length, seed))


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


def test_links_by_their_law() -> None:
    """Section 2: r blocks for each, all other sets of them equally likely, whatever the others drew."""
    torch.manual_seed(0)
    layer = BigBird(400, 400, 12, block=1, window_blocks=3, global_blocks=3, random_blocks=2)
    # Of 12 blocks 0, 1 and 11 are global; 5 sees 4, 5 and 6 by its window, and six are left.
    others = [2, 3, 7, 8, 9, 10]
    links = layer.links[:, 5]
    assert set(links.flatten().tolist()) == set(others) and bool((links[:, 0] != links[:, 1]).all())
    # 800 draws of 6: each 133 times, give or take 4 x 9.4; either place alone 67 give or take 4 x 7.5.
    counts = torch.stack([torch.stack([(links == b)[:, place].sum() for b in others]) for place in (0, 1)])
    assert ((counts.sum(0) - 800 / 6).abs() < 38).all() and ((counts - 400 / 6).abs() < 30).all()
    pairs = {tuple(sorted(pair)) for pair in links.tolist()}
    assert len(pairs) == 15, "every pair is drawn"
    # Heads and blocks draw for themselves: 5 and 8 have three blocks in common.
    agree = (layer.links[:, 5, 0] == layer.links[:, 8, 0]).float().mean()
    assert abs(agree - 3 / 36) < 4 * (3 / 36 / 400) ** 0.5
    assert (layer.links[:-1, 5, 0] == layer.links[1:, 5, 0]).float().mean() < 1 / 6 + 4 * (1 / 6 / 400) ** 0.5
    # Fewer left than wanted: all of them, and none twice.
    few = BigBird(8, 2, 8, block=1, random_blocks=5).links[:, 3]
    assert all(sorted(row) == [-1, -1, 1, 5, 6] for row in few.tolist())
    assert BigBird(8, 2, 8, block=1, random_blocks=0).links.numel() == 0


def test_a_pattern_follows_links_that_are_written_to() -> None:
    """One for one: in place, in inference mode, by another buffer, and in a copy that counts anew."""
    torch.manual_seed(0)
    first, second = (BigBird(8, 2, 320, block=16) for _ in range(2))
    second.load_state_dict({**first.state_dict(), "links": second.links})
    x, mask = torch.randn(1, 320, 8), torch.ones(1, 320, dtype=torch.bool)
    expected, original, links = second(x, mask), first(x, mask), first.links.clone()
    assert not torch.equal(expected, original)
    # However often the original was written to, no count of it is one of the copy.
    for _ in range(4):
        first.links.copy_(second.links)
        assert torch.equal(first(x, mask), expected)
        twin = copy.deepcopy(first)
        twin.links.copy_(links)
        assert torch.equal(twin(x, mask), original)
    first.links = links
    assert torch.equal(first(x, mask), original)
    # Another that was never written to either.
    first.links = second.links.clone()
    assert torch.equal(first(x, mask), expected)
    first.links = links
    with torch.inference_mode():
        first.links = links.clone()
        assert torch.equal(first(x, mask), original)
        first.links.copy_(second.links)
        assert torch.equal(first(x, mask), expected)


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


def test_extra_tokens_start_like_positions() -> None:
    torch.manual_seed(0)
    assert_normal(ExtraTokens(lambda layer, shared: BigBird(64, 2, 8), 1, 64, 8, extra_tokens=40).extra, 0.02)


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
