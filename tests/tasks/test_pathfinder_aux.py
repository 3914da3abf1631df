"""The places of the discs as a second thing to learn: pairing, loss, what is found, and what cannot be asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lra.check.short import verdict
from lra.errors import UserError
from lra.models.parts.queries import LAYERS, QUERIES, READ, Queries
from lra.settings import build, compose
from lra.settings.identity import identity
from lra.settings.typed import plain
from lra.tasks.pathfinder import aux
from tests.help import composed
from tests.help.mixers import masks
from tests.help.paper import leaves, results, under, wake

# What is compiled for it is so once.
pytestmark = pytest.mark.xdist_group("pathfinder")

WORDS = ("task=pathfinder", "task.num_images=60", "task.aux=discs", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16")


def test_the_pairing_is_the_exact_one() -> None:
    cost = torch.randn(200, 3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = aux.paired(cost)
    for i, j in itertools.product(range(200), range(3)):
        query, disc = linear_sum_assignment(cost[i, j].numpy())
        assert found[i, j, disc].tolist() == query.tolist()


def slow_loss(output: Tensor, places: Tensor, classes: int) -> Tensor:
    """Query by query, with scipy's assignment."""
    losses = []
    for row, discs in zip(output, places, strict=True):
        for layer in row[classes:].view(LAYERS, QUERIES, READ):
            p, where = layer[:, :2].softmax(-1), layer[:, 2:]
            cost = torch.stack(
                [torch.stack([5 * (w - d).abs().sum() - q[0] for d in discs]) for q, w in zip(p, where, strict=True)]
            )
            pairs = dict(zip(*linear_sum_assignment(cost.detach().numpy()), strict=True))
            loss = torch.zeros((), dtype=row.dtype)
            for i in range(QUERIES):
                if i in pairs:
                    loss = loss - p[i, 0].log() + 5 * (where[i] - discs[pairs[i]]).abs().sum()
                else:
                    loss = loss - 0.1 * p[i, 1].log()
            losses.append(loss)
    return torch.stack(losses).mean()


def test_the_loss_and_its_gradient() -> None:
    draw = torch.Generator().manual_seed(1)
    output = torch.rand(5, 2 + LAYERS * QUERIES * READ, generator=draw, dtype=torch.float64).requires_grad_()
    places = torch.rand(5, 2, 2, generator=draw, dtype=torch.float64)
    ours, theirs = aux.matching_loss(output, places, 2), slow_loss(output, places, 2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(y, output)[0] for y in (ours, theirs)), rtol=0, atol=1e-12)


def test_whatever_the_order_of_queries_what_is_told_is_found() -> None:
    places = torch.tensor([[[0.25, 0.5], [0.75, 0.125]]])
    exact = torch.tensor([[0.25, 0.5], [0.75, 0.125 + 3 / 16], [0.9, 0.9], [0.1, 0.1]])
    says = torch.tensor([[9.0, -9.0], [9.0, -9.0], [-9.0, 9.0], [-9.0, 9.0]])
    for order in itertools.permutations(range(4)):
        last = torch.cat((says, exact), 1)[list(order)].flatten()
        output = torch.cat((torch.zeros(2), torch.rand(QUERIES * READ), last))[None]
        told = aux.noted(output, places, 2, 16)
        assert told["discs_found"].item() == 0.5 and told["disc_pixels_off"].item() == pytest.approx(1.5)


def exam_and_settings(*more: str):
    what = composed.settings(*WORDS, *more)
    return build.task(what), what


def test_places_are_those_of_the_images(tmp_path) -> None:
    exam, _ = exam_and_settings(f"data_dir={tmp_path}")
    train = exam.split("train")
    batch = exam.collate([train[i] for i in range(8)])
    images = (batch.tokens - 1).view(8, 16, 16)
    for image, discs in zip(images, batch.places, strict=True):
        assert len({tuple(d) for d in discs.tolist()}) == 2
        for row, column in (discs * 16 - 0.5).round().int().tolist():
            around = image[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            assert float(around.float().mean()) > float(image.float().mean())
    assert exam.row.endswith("-60images-discs") and batch.asked == 8
    output = torch.randn(8, 2 + LAYERS * QUERIES * READ)
    plain_exam, _ = exam_and_settings("task.aux=null", f"data_dir={tmp_path}")
    plain_batch = type(plain_exam.synthetic(1))(*batch[:3])
    label = plain_exam.loss(output[:, :2], plain_batch)
    assert exam.loss(output, batch) == label + aux.matching_loss(output, batch.places, 2)
    for ours, theirs in zip(exam.scores(output, batch), plain_exam.scores(output[:, :2], plain_batch), strict=True):
        assert torch.equal(ours, theirs)
    assert plain_exam.noted(output[:, :2], plain_batch) == {}
    assert np.array_equal(exam.split("test").labels, plain_exam.split("test").labels)


def twin(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int = 2) -> Tensor:
    def norm(name: str, z: Tensor) -> Tensor:
        z = z - z.mean(-1, keepdim=True)
        return z / (z.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attend(own: dict[str, Tensor], z: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        q = (z @ own["query.weight"].T).unflatten(-1, (heads, -1)).transpose(1, 2)
        k, v = ((y @ own[f"{n}.weight"].T).unflatten(-1, (heads, -1)).transpose(1, 2) for n in ("key", "value"))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).exp() * seen[:, None, None]
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
        return (weights @ v).transpose(1, 2).flatten(2) @ own["out.weight"].T

    z, out = w["start"].expand(len(x), -1, -1), []
    for i in range(LAYERS):
        at = f"layers.{i}"
        n = norm(f"{at}.norms.0", z)
        z = z + attend(under(w, f"{at}.among"), n, n, torch.ones(len(x), QUERIES))
        z = z + attend(under(w, f"{at}.asking"), norm(f"{at}.norms.1", z), x, mask)
        h = (norm(f"{at}.norms.2", z) @ w[f"{at}.feed.0.weight"].T + w[f"{at}.feed.0.bias"]).relu()
        z = z + h @ w[f"{at}.feed.2.weight"].T + w[f"{at}.feed.2.bias"]
        y = norm("norm", z) @ w["read.weight"].T + w["read.bias"]
        out.append(torch.cat((y[..., :2], 1 / (1 + (-y[..., 2:]).exp())), -1))
    return torch.stack(out, 1).flatten(1)


def test_the_queries_equal_the_equations() -> None:
    torch.manual_seed(0)
    layer = Queries(12, 2).double()
    wake(layer)
    mask = masks(19)[:4]  # a row with nothing real has nothing to find
    x = torch.randn(4, 19, 12, dtype=torch.float64)
    w, leaf = leaves(layer), x.clone().requires_grad_()
    ones = torch.ones(())
    found = results(layer(leaf, mask), ones, {"x": leaf} | dict(layer.named_parameters()))
    other = x.clone().requires_grad_()
    expected = results(twin(w, other, mask), ones, {"x": other} | w)
    for what, exact in expected.items():
        torch.testing.assert_close(found[what], exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model", ["linear", "chordmixer"])
def test_any_model_of_sequences_keeps_the_contract_with_it(model: str) -> None:
    exam, what = exam_and_settings(f"model={model}", "size.dropout=0.1")
    found = verdict(what, exam, "cpu")
    assert not found["broken"] and not found["unchecked"] and found["blind"] == 0.0


def test_what_cannot_be_asked_is_refused_in_one_line() -> None:
    for words, says in (
        (("task.aux=corners",), "task.aux: 'corners' is not discs, or null"),
        (
            ("task.resolution=32", "task.contour_length=14", "task.path=/nowhere"),
            "task.aux: discs is known of generated",
        ),
        (("task.aux_weight=0",), "task.aux_weight: 0"),
    ):
        with pytest.raises(UserError) as error:
            exam_and_settings(*words)
        assert says in str(error.value) and "\n" not in str(error.value)
    exam, what = exam_and_settings("model=vit")
    with pytest.raises(UserError, match="aux"):
        build.outline(what, exam)


def test_without_it_a_run_is_what_it_was() -> None:
    now = plain(compose.config(["task=pathfinder"]))
    before = {**now, "task": {k: v for k, v in now["task"].items() if not k.startswith("aux")}}
    assert identity(now) == identity(before)
    assert identity(plain(compose.config(["task=pathfinder", "task.aux=discs"]))) != identity(now)
