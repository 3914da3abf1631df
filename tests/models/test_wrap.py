"""A layer from elsewhere as a mixer: held to the layer itself, and to what the audit says of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_class as import_layer
from torch import Tensor, nn

from lra.check.card import ask, points
from lra.check.subject import Finding, Subject, padded
from lra.models.wrap import Wrapped
from lra.settings.compose import config

TORCH = {
    "of": partial(nn.MultiheadAttention, batch_first=True),
    "names": {"embed_dim": "dim", "num_heads": "heads"},
    "inputs": 3,
}
FACTS = {"dim": 16, "heads": 2, "qkv_dim": 8, "max_len": 64, "dropout": 0.0, "rotary": False, "layer": 0, "depth": 2}
MASK = padded([9, 4, 9, 1], 9)
POINTS = ("shapes", "finite", "gradients", "repeatable", "padding", "batch")


class Maskless(nn.Module):
    """Softmax attention of one head, as many packages have it: no mask. Keeps what it is built with."""

    def __init__(self, dim: int, seq_len: int = 0, dim_head: int = 0, dropout: float = 0.0, **rest: object) -> None:
        super().__init__()
        self.given = {"seq_len": seq_len, "dim_head": dim_head, "dropout": dropout, **rest}
        self.into = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.into(x).chunk(3, -1)
        return (q @ k.mT).softmax(-1) @ v


class Swallows(Maskless):
    """Takes any keyword and ignores it."""

    def forward(self, x: Tensor, **rest: Tensor) -> Tensor:
        return super().forward(x)


class Blocks(nn.Module):
    """Full attention for multiples of 4 only, with a mask, and with more than one thing to return."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        assert x.shape[1] % 4 == 0 and mask.shape == x.shape[:2]
        return self.inner(x, x, x, key_padding_mask=~mask, need_weights=False)[0], None


class Convolution(nn.Conv1d):
    """A convolution over the length: zeros in the padding are its own zeros at the border."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT).mT


def made(**options: object) -> Wrapped:
    torch.manual_seed(0)
    return Wrapped(**options, **FACTS)


def one_at_a_time(wrapped: Wrapped, x: Tensor, mask: Tensor) -> Tensor:
    """What every wrapped layer should give: each example without its padding."""
    out = torch.zeros_like(x)
    for row, real in enumerate(mask):
        alone = x[row : row + 1, real]
        out[row, real] = wrapped(alone, torch.ones(alone.shape[:2], dtype=torch.bool))[0]
    return out


@pytest.mark.parametrize(
    "options",
    [
        {**TORCH, "mask": "~key_padding_mask"},
        {"of": Blocks, "mask": "mask", "multiple": 4},
        {"of": Maskless, "alone": True},
        {"of": Convolution},
    ],
    ids=["torch", "multiple", "alone", "convolution"],
)
def test_padding_has_no_part_in_outputs_and_gradients(options: dict) -> None:
    wrapped, mask = made(**options), MASK
    x = torch.randn(*mask.shape, 16, generator=torch.Generator().manual_seed(1))
    back = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for forward in (wrapped, partial(one_at_a_time, wrapped)):
        leaf = x.clone().requires_grad_()
        wrapped.zero_grad()
        y = forward(leaf, mask)
        (y * back).sum().backward()
        results.append([y.detach(), leaf.grad, *(p.grad.clone() for p in wrapped.parameters())])
    for ours, slow in zip(*results, strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-5)
    assert not results[0][0][~mask].any()


def test_the_layer_itself_answers() -> None:
    wrapped, x = made(**TORCH, mask="~key_padding_mask"), torch.randn(2, 9, 16)
    direct = wrapped.layer(x, x, x)[0]
    torch.testing.assert_close(wrapped(x, torch.ones(2, 9, dtype=torch.bool)), direct)


def test_a_layer_is_handed_what_it_names() -> None:
    wrapped = made(of=partial(Maskless, dropout=0.3), names={"seq_len": "max_len", "dim_head": "head_dim"})
    assert wrapped.layer.given == {"seq_len": 64, "dim_head": 4, "dropout": 0.3}  # and nothing by **rest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"of": Maskless, "names": {"seq_len": "length"}}, "names.seq_len: 'length' is not one of"),
        ({"of": Maskless, "mask": "mask"}, "the forward of Maskless takes no 'mask'"),
        ({"of": Swallows, "mask": "mask", "alone": True}, "alone"),
        ({"of": Maskless, "multiple": 0}, "multiple 0"),
    ],
)
def test_bad_options_are_named(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(**options)


def test_rotary_is_refused() -> None:
    with pytest.raises(ValueError, match="rotary is not possible for Maskless"):
        Wrapped(Maskless, **FACTS | {"rotary": True})


def audited(folder: Path, **mixer: object) -> dict[str, Finding]:
    (folder / "model").mkdir()
    node = {"_target_": "models.wrap.Wrapped", "_partial_": True, **mixer}
    text = "# @package _global_\n" + yaml.safe_dump({"model": {"mixer": node}})
    (folder / "model" / "foreign.yaml").write_text(text)
    tiny = ["size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16"]
    subject = Subject(config(["model=foreign", *tiny], str(folder)), 160)
    return {f.name: f for name in POINTS for f in ask(name, points()[name], subject)}


@pytest.mark.parametrize(
    ("name", "more", "broken"),
    [
        ("Maskless", {}, {"padding"}),
        pytest.param("Swallows", {"mask": "mask"}, {"padding"}, marks=pytest.mark.slow),
        pytest.param("Maskless", {"alone": True}, set(), marks=pytest.mark.slow),
        ("Blocks", {"mask": "mask", "multiple": 4}, set()),
        pytest.param("Convolution", {}, set(), marks=pytest.mark.slow),
    ],
)
def test_the_audit_tells_an_honest_mask_from_none(tmp_path: Path, name: str, more: dict, broken: set) -> None:
    """A layer that ignores the mask is reported, whether or not it takes the keyword."""
    findings = audited(tmp_path, of={"_target_": f"tests.models.test_wrap.{name}", "_partial_": True}, **more)
    assert {n for n, f in findings.items() if f.status == "fail"} == broken, findings
    if broken:
        assert "padding" in findings["padding"].text


@pytest.mark.slow
def test_what_is_wrong_with_memory_compressed_attention(tmp_path: Path) -> None:
    """With its mask, a real query sees the null key alone, so that no token moves another and nothing before it learns:
    the comparison of the masks of queries and of keys is true where the one is padding and the other is not."""
    pytest.importorskip("memory_compressed_attention", reason="extra `peers`")
    of = {"_target_": "memory_compressed_attention.MemoryCompressedAttention", "_partial_": True}
    findings = audited(tmp_path, of=of, mask="input_mask")
    assert findings["gradients"].status == "fail" and "null_k" in findings["gradients"].text
    assert findings["padding"].status == "ok", "which is why nobody notices"
    wrapped = made(of=partial(import_layer(of["_target_"]), heads=2), mask="input_mask")
    x, changed = torch.randn(2, 1, 9, 16)
    changed[:, 0] = x[:, 0]
    whole = torch.ones(1, 9, dtype=torch.bool)
    torch.testing.assert_close(wrapped(x, whole)[:, 0], wrapped(changed, whole)[:, 0], rtol=0, atol=0)
    without = wrapped.layer(x)[:, 0], wrapped.layer(changed)[:, 0]
    assert not torch.allclose(*without, atol=1e-4)


@pytest.mark.slow
def test_what_is_wrong_with_h_transformer_1d(tmp_path: Path) -> None:
    """More padding moves its answer, by far more than rounding, and inputs of one token are an error."""
    pytest.importorskip("h_transformer_1d", reason="extra `peers`")
    of = {"_target_": "h_transformer_1d.h_transformer_1d.HAttention1D", "_partial_": True}
    findings = audited(tmp_path, of=of, mask="mask", names={"dim_head": "head_dim"})
    assert findings["padding"].status == "fail" and "padding more: the answer moves" in findings["padding"].text
    assert findings["shapes"].status == "fail"
