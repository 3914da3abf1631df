"""The pixel references against their equations, written pixel by pixel; and what any model owes its exam."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.check.divided import divided
from lra.check.short import verdict
from lra.check.subject import difference
from lra.errors import UserError
from lra.models.parts.chance import tell
from lra.models.pixels import PixelClassifier
from lra.root import CONFIGS
from lra.settings import build
from lra.settings.compose import config
from tests.help import composed, tiny
from tests.help.few import PIXELS
from tests.help.paper import leaves, results, under, wake

TINY = ("size.dim=12", "size.qkv_dim=12", "size.mlp_dim=10", "size.heads=2", "size.depth=2")
W = dict[str, Tensor]


@cache
def settings(model: str, task: str = "pathfinder", *more: str):
    return composed.settings(f"task={task}", f"model={model}", *TINY, *more)


def built(model: str, *more: str, task: str = "pathfinder", seed: int = 0) -> PixelClassifier:
    torch.manual_seed(seed)
    what = settings(model, task, *more)
    return build.model(what, build.task(what))


def norm(w: W, x: Tensor, eps: float = 1e-6) -> Tensor:
    """LayerNorm over the last dimension."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * w["weight"] + w["bias"]


def group_norm(w: W, x: Tensor) -> Tensor:
    """Of one group: over all of an example (B, D, r, c)."""
    x = x - x.mean((1, 2, 3), keepdim=True)
    x = x / (x.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    return x * w["weight"][:, None, None] + w["bias"][:, None, None]


def conv(w: W, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """A convolution, as a sum over its taps."""
    weight = w["weight"]
    size, x = weight.shape[2], F.pad(x, (padding,) * 4)
    rows, columns = ((side - size) // stride + 1 for side in x.shape[2:])
    y = 0
    for a, b in product(range(size), range(size)):
        seen = x[:, :, a : a + stride * (rows - 1) + 1 : stride, b : b + stride * (columns - 1) + 1 : stride]
        y = y + torch.einsum("oc,bcij->boij", weight[:, :, a, b], seen)
    return y + w["bias"][:, None, None]


def attention(w: W, x: Tensor, seen: Tensor, heads: int, bias: Tensor | float = 0.0) -> Tensor:
    """seen bool (N, N), bias (H, N, N)."""
    q, k, v = ((x @ w[f"{n}.weight"].T).unflatten(-1, (heads, -1)).transpose(1, 2) for n in ("query", "key", "value"))
    weights = (q @ k.mT / q.shape[-1] ** 0.5 + bias).exp() * seen
    y = weights / weights.sum(-1, keepdim=True) @ v
    return y.transpose(1, 2).flatten(2) @ w["out.weight"].T


def fed(w: W, x: Tensor) -> Tensor:
    h = x @ w["inner.weight"].T + w["inner.bias"]
    h = 0.5 * h * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
    return h @ w["outer.weight"].T + w["outer.bias"]


def layer(w: W, x: Tensor, mixer: Callable[[W, Tensor], Tensor]) -> Tensor:
    x = x + mixer(under(w, "mixer"), norm(under(w, "mixer_norm"), x))
    return x + fed(under(w, "mlp"), norm(under(w, "mlp_norm"), x))


def flat(x: Tensor) -> Tensor:
    return x.flatten(2).mT


def vit(w: W, image: Tensor, patch: int = 4, stem: str = "patch", positions: str = "learned", cls: bool = True):
    if stem == "patch":
        x = conv(under(w, "stem"), image, patch)
    else:
        x = image
        for i in range(patch.bit_length() - 1):
            x = group_norm(under(w, f"stem.{3 * i + 1}"), conv(under(w, f"stem.{3 * i}"), x, 2, 1)).relu()
        x = conv(under(w, f"stem.{3 * (patch.bit_length() - 1)}"), x)
    side = x.shape[3]
    x = flat(x)
    if cls:
        x = torch.cat((w["cls"].expand(len(x), 1, -1), x), 1)
    if positions == "learned":
        x = x + w["positions"]
    for i in range(2):
        own, n = under(w, f"layers.{i}"), x.shape[1]
        x = layer(own, x, lambda w, n_: attention(w, n_, torch.ones((), dtype=torch.bool), 2))
        if i == 0 and positions == "conditional":
            taps, more = w["conditional.weight"][:, 0], x.clone()
            for p in range(n - cls):
                r, c = divmod(p, side)
                y = w["conditional.bias"].expand(len(x), -1)
                for a, b in product((-1, 0, 1), (-1, 0, 1)):
                    if 0 <= r + a < (n - cls) // side and 0 <= c + b < side:
                        y = y + x[:, (r + a) * side + c + b + cls] * taps[:, a + 1, b + 1]
                more[:, p + cls] = x[:, p + cls] + y
            x = more
    x = norm(under(w, "norm"), x)
    return x[:, 0] if cls else x.mean(1)


def swin(w: W, image: Tensor, patch: int = 2, window: int = 4) -> Tensor:
    x = conv(under(w, "stem"), image, patch)
    rows, columns = x.shape[2:]
    x = norm(under(w, "stem_norm"), flat(x), 1e-5)
    for stage in range(2):
        size = min(window, rows, columns)
        place = torch.tensor(list(product(range(rows), range(columns))))
        apart = place[:, None] - place + size - 1
        for i in range(2):
            shift = size // 2 if i and (rows, columns) != (size, size) else 0
            mine = (place - shift).div(size, rounding_mode="floor")  # the windows of a plane without end
            seen = (mine[:, None] == mine).all(-1)
            own = under(w, f"stages.{stage}.{i}")
            index = (apart[..., 0] * (2 * size - 1) + apart[..., 1]).clamp(0, (2 * size - 1) ** 2 - 1)
            bias = own["mixer.bias"][index].permute(2, 0, 1)
            x = layer(own, x, lambda w, n_, seen=seen, bias=bias: attention(w, n_, seen, 2, bias))
        if stage == 0:
            grid = x.unflatten(1, (rows, columns))
            four = torch.stack([grid[:, a::2, b::2] for a in (0, 1) for b in (0, 1)], -1).flatten(3)
            rows, columns = rows // 2, columns // 2
            x = norm(under(w, "merges.0.norm"), four.flatten(1, 2), 1e-5) @ w["merges.0.reduce.weight"].T
    return norm(under(w, "norm"), x, 1e-5).mean(1)


def pooled(x: Tensor) -> Tensor:
    rows, columns = (-(-side // 2) for side in x.shape[2:])
    cells = [
        x[:, :, max(0, 2 * i - 1) : 2 * i + 2, max(0, 2 * j - 1) : 2 * j + 2].mean((2, 3))
        for i, j in product(range(rows), range(columns))
    ]
    return torch.stack(cells, -1).unflatten(-1, (rows, columns))


def fpt(w: W, image: Tensor, parts: tuple[str, ...] = ("self", "ground", "render")) -> Tensor:
    def one(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return group_norm(under(w, f"{name}.1"), conv(under(w, f"{name}.0"), x, stride, padding))

    def within(name: str, x: Tensor) -> Tensor:
        q, k, v = (conv(under(w, f"{name}.{n}"), x) for n in ("query", "key", "value"))
        q, k, v = flat(q), flat(pooled(k)), flat(pooled(v))
        shares = (q.mean(1) @ w[f"{name}.shares.weight"].T).softmax(-1)
        y = 0
        for n, (a, b) in enumerate(zip(q.chunk(2, -1), k.chunk(2, -1), strict=True)):
            y = y + shares[:, n, None, None] * ((a @ b.mT / a.shape[-1] ** 0.5).softmax(-1) @ v)
        return conv(under(w, f"{name}.out"), y.mT.unflatten(2, x.shape[2:]))

    def ground(name: str, fine: Tensor, coarse: Tensor) -> Tensor:
        q, k, v = (
            flat(conv(under(w, f"{name}.{n}"), x)) for n, x in (("query", fine), ("key", coarse), ("value", coarse))
        )
        y = (-(q[:, :, None] - k[:, None]).square().sum(-1)).softmax(-1) @ v
        return conv(under(w, f"{name}.out"), y.mT.unflatten(2, fine.shape[2:]))

    def render(name: str, coarse: Tensor, fine: Tensor, stride: int) -> Tensor:
        weight = one(f"{name}.key", fine.mean((2, 3), keepdim=True)).relu()
        return (one(f"{name}.value", fine, stride, 1) + one(f"{name}.query", coarse, 1, 1) * weight).relu()

    levels, x = [], image
    for i in range(3):
        x = one(f"levels.{i}", x, 2 if i else 1, 1).relu()
        levels.append(x)
    for block in ("blocks.0", "blocks.1"):
        given = [[x] for x in levels]
        for i in range(3):
            if "self" in parts:
                given[i].append(within(f"{block}.within.{i}", levels[i]))
            for j in range(i + 1, 3) if "ground" in parts else ():
                given[i].append(ground(f"{block}.ground.{i}{j}", levels[i], levels[j]))
            for j in range(i) if "render" in parts else ():
                given[i].append(render(f"{block}.render.{i}{j}", levels[i], levels[j], 2 ** (i - j)))
        levels = [one(f"{block}.back.{i}", torch.cat(g, 1), 1, 1).relu() for i, g in enumerate(given)]
    return torch.cat([x.mean((2, 3)) for x in levels], 1)


def axial(w: W, image: Tensor) -> Tensor:
    rows, columns = image.shape[2:]
    x = flat(conv(under(w, "pixel"), image))
    place = torch.arange(rows * columns)
    row, column = place // columns, place % columns
    x = x + w["row"][row] + w["column"][column]

    def crossed(own: W, n_: Tensor) -> Tensor:
        return sum(
            attention(under(own, name), n_, line[:, None] == line, 2)
            for name, line in (("rows", row), ("columns", column))
        )

    for i in range(2):
        x = layer(under(w, f"layers.layers.{i}"), x, crossed)
    return norm(under(w, "layers.norm"), x).mean(1)


TWINS = {
    "vit": ((), vit),
    "vit-conditional": (
        ("model.stack.positions=conditional",),
        lambda w, x: vit(w, x, positions="conditional"),
    ),
    "vit-mean": (
        ("model.pooling=mean", "model.stack.patch=8"),
        lambda w, x: vit(w, x, patch=8, cls=False),
    ),
    "vit_hybrid": ((), lambda w, x: vit(w, x, stem="conv")),
    "swin": ((), swin),
    "fpt": ((), fpt),
    "fpt-ground": (("model.stack.parts=[ground]",), lambda w, x: fpt(w, x, ("ground",))),
    "axial_image": ((), axial),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_network_equals_the_equations(name: str) -> None:
    more, slow = TWINS[name]
    model = built(name.split("-")[0], *more)
    wake(model, by=0.1)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 257, (2, 16 * 16), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)

    def equation(w: W, intensities: Tensor) -> Tensor:
        image = (intensities - 0.5) / 0.25
        y = slow(under(w, "encoder"), image.view(2, 1, 16, 16))
        y = (y @ w["head.0.weight"].T + w["head.0.bias"]).relu()
        return y @ w["head.2.weight"].T + w["head.2.bias"]

    w = leaves(model)
    expected = results(equation(w, (tokens - 1).double() / 255), torch.ones(()), w)
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-11)):
        own = copy.deepcopy(model).to(dtype)
        found = results(own(tokens, mask), torch.ones((), dtype=dtype), dict(own.named_parameters()))
        largest = max(float(t.detach().abs().max()) for n, t in expected.items() if n != "output")
        for what, exact in expected.items():
            most = float(exact.detach().abs().max())
            error = difference(found[what].detach().double(), exact.detach())
            assert error * most / max(most, 0.01 * largest) < bound, f"{what}: {error:.1e} in {dtype}"
            assert found[what].dtype == dtype


@pytest.mark.parametrize("name", PIXELS)
def test_every_run_finds_the_contract_kept(name: str) -> None:
    """On both exams of images: padding, which images have none of, companions, parts; and every pixel counts."""
    for task in ("image_jpeg", "pathfinder"):
        what = settings(name, task, "size.dropout=0.1", "size.attention_dropout=0.1")
        found = verdict(what, build.task(what), "cpu")
        assert not found["broken"] and not found["unchecked"] and found["blind"] == 0.0


@pytest.mark.parametrize("name", PIXELS)
def test_parts_copies_and_what_is_computed_again_draw_the_same(name: str) -> None:
    model = built(name, "size.dropout=0.2", "size.attention_dropout=0.3").double()
    tokens = torch.randint(1, 257, (4, 256), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    assert divided(model, tokens, mask, [[3, 0], [2], [1]])[1] == "same"
    again = built(name, "size.dropout=0.2", "size.attention_dropout=0.3", "model.checkpoint=true").double()
    again.load_state_dict(model.state_dict())
    answers = []
    for one in (model, again, copy.deepcopy(model)):
        tell(one.train(), 0, 5, torch.arange(4))
        y = one(tokens, mask)
        answers.append((y.detach(), *torch.autograd.grad(y.square().sum(), list(one.parameters()))))
    for other in answers[1:]:
        for a, b in zip(other, answers[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert not torch.equal(answers[0][0], model.eval()(tokens, mask))


@pytest.mark.parametrize("name", PIXELS)
def test_bf16_and_claims(name: str) -> None:
    model = built(name)
    tokens = torch.randint(1, 257, (2, 256), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    exact = model.eval()(tokens, mask)
    with torch.autocast("cpu", torch.bfloat16):
        model(tokens, mask).float().sum().backward()
        assert difference(model(tokens, mask).float(), exact) < 0.1
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert set(settings(name).claims) == {"time", "memory"} and settings(name).about["uses_2d"] is True


def test_neighbours_in_the_image_are_what_they_see() -> None:
    """A planted order of rows is another image to all of them: not one takes its pixels for a line."""
    for name in PIXELS:
        model = built(name).eval()
        wake(model, by=0.1)
        tokens = torch.randint(1, 257, (1, 256), generator=torch.Generator().manual_seed(2))
        mask = torch.ones_like(tokens, dtype=torch.bool)
        turned = tokens.view(1, 16, 16).mT.reshape(1, 256)
        assert difference(model(turned, mask), model(tokens, mask)) > 1e-4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("task=text", "model=vit"), "model: vit reads the rows and columns of an image, which task=text has not"),
        (
            ("task=recall", "model=swin"),
            "model: swin reads the rows and columns of an image, which task=recall has not",
        ),
        (("task=image", "model=vit", "model.stack.patch=5"), "model.stack.patch: 5 does not divide the 32 x 32 pixels"),
        (("task=image", "model=vit_hybrid", "model.stack.patch=1"), "model.stack.patch: 1 is not 2, 4, 8"),
        (("task=image", "model=vit", "model.stack.stem=wide"), "model.stack.stem: 'wide' is not one of patch, conv"),
        (("task=image", "model=vit", "model.position=learned"), "model.position: 'learned' is of tokens in a line"),
        (("task=image", "model=swin", "model.pooling=cls"), "model.pooling: 'cls' is not mean"),
        (("task=image", "model=vit", "model.pooling=max"), "model.pooling: 'max' is not one of cls, mean"),
        (("task=image", "model=swin", "model.stack.window=3"), "model.stack.window: 3 does not divide the 16 x 16"),
        (("task=image", "model=swin", "model.stack.stages=0"), "model.stack.stages: 0 is not 1 or more"),
        (("task=image", "model=fpt", "model.stack.parts=[up]"), "model.stack.parts: ['up'] are not some of self"),
        (("task=image", "model=fpt", "model.stack.mixtures=5"), "model.stack.mixtures: 5 does not divide the width"),
        (("task=image", "model=vit", "model.pixels=null"), "model.pixels: None is not a mean and a deviation"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: tuple[str, ...], says: str) -> None:
    what = composed.settings(*words)
    with pytest.raises(UserError) as error:
        build.outline(what, build.task(what))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_model_that_does_not_say_so_is_told_no_grid() -> None:
    what = config(["task=image", "model=vit", "about.uses_2d=false"])
    with pytest.raises(UserError, match="reads the rows and columns of an image, which this task has not"):
        build.outline(what, build.task(what))
    long = built("vit")
    with pytest.raises(ValueError, match="length 257 is above the 256 pixels"):
        long(torch.ones(1, 257, dtype=torch.long), torch.ones(1, 257, dtype=torch.bool))


def test_they_are_in_no_sweep_of_sequence_models_and_audit_says_why() -> None:
    files = {path.stem: path.read_text() for path in (CONFIGS / "model").glob("*.yaml")}
    assert {name for name, text in files.items() if "uses_2d: true" in text} == {*PIXELS}
    for path in (CONFIGS / "sweep").glob("*.yaml"):
        line = next(x for x in path.read_text().splitlines() if x.strip().startswith("model: "))
        globbed = {*PIXELS} if "glob(*" in line and "vit*,swin,fpt,axial_image" not in line else set()
        assert not globbed, path.name
    done = tiny.lra("model=vit", module="lra.check")
    assert done.returncode == 2 and done.stderr.startswith("lra: model: vit reads the rows and columns of an image")


def test_biases_of_places_in_a_window_start_near_zero() -> None:
    """As the authors draw them, N(0, 0.02)."""
    torch.manual_seed(0)
    found = [p for name, p in built("swin").named_parameters() if name.endswith("mixer.bias")]
    assert found and all(0.01 < p.std() < 0.03 for p in found)
