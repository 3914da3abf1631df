"""BatchNorm over real tokens against torch's own, its averages, and what it says of itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lra.check.card import ask, points
from lra.check.subject import Subject
from lra.models.bare import BareStack
from lra.models.mega_block import MegaStack
from lra.models.parts.norms import BatchNorm
from lra.settings.compose import config
from lra.train.parts import couples
from tests.help.mixers import masks
from tests.help.paper import wake


def test_it_is_torchs_over_the_real_tokens() -> None:
    """Outputs, gradients and averages over several batches; then in eval()."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm(6).double(), nn.BatchNorm1d(6).double()
    wake(ours)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    mask = masks(12)
    for step in range(3):
        x = (3 * torch.randn(5, 12, 6, dtype=torch.float64) + step).requires_grad_()
        y, expected = ours(x, mask)[mask], theirs(x[mask])
        torch.testing.assert_close(y, expected)
        back = torch.randn_like(y)
        for a, b in zip(
            torch.autograd.grad(y, [x, *ours.parameters()], back),
            torch.autograd.grad(expected, [x, *theirs.parameters()], back),
            strict=True,
        ):
            torch.testing.assert_close(a, b)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x, mask)[mask], theirs.eval()(x[mask]))


def test_padding_has_no_say_and_nothing_real_is_a_number() -> None:
    norm, x, mask = BatchNorm(4).train(), torch.randn(2, 6, 4), torch.arange(6) < torch.tensor([[6], [2]])
    y = norm(x, mask)
    torch.testing.assert_close(norm(x.masked_fill(~mask[..., None], 1e4), mask)[mask], y[mask])
    assert torch.isfinite(norm(x, torch.zeros_like(mask))).all() and torch.isfinite(norm.variance).all()
    assert torch.isfinite(norm(x[:1, :1], mask[:1, :1])).all() and torch.isfinite(norm.variance).all()
    assert norm.bfloat16()(x.bfloat16(), mask).dtype == torch.bfloat16


@pytest.mark.parametrize("stack", [BareStack, MegaStack])
def test_it_is_not_computed_again(stack: type) -> None:
    options = {"mlp_dim": 4} if stack is MegaStack else {}
    with pytest.raises(ValueError, match="model.checkpoint: true is not possible with batchnorm"):
        stack(lambda layer, shared: nn.Identity(), 1, 4, batchnorm=True, checkpoint=True, **options)


def test_the_audit_expects_it_and_says_so() -> None:
    """It fails where examples see each other while training, and nowhere else."""
    words = ["model=s4d_block", "+model.stack.batchnorm=true", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16"]
    subject = Subject(config(words), 200)
    assert couples(subject.build()) == "BatchNorm"
    found = {name: ask(name, point, subject)[0] for name, point in points().items()}
    assert [name for name, finding in found.items() if finding.status == "fail"] == ["batch"]
    assert found["batch"].text.endswith("as is to be expected of BatchNorm")
