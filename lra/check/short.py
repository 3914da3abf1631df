"""The short form of the contract: what a run asks of its model before it trains, at the run's own sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lra.check.contract import NOTHING
from lra.check.divided import divided
from lra.check.readout import blind, gradients, reached
from lra.check.subject import TOLERANCE, difference
from lra.errors import first_line
from lra.machine.device import own_randomness
from lra.marks.capacity import octaves
from lra.measure.gauges import is_oom
from lra.settings import build
from lra.settings.schema import Settings
from lra.train.parts import couples

ROWS = 3


def verdict(settings: Settings, exam: Any, device: str) -> dict[str, Any]:
    """What a record keeps of it, in float32 on `device`. Draws nothing from the run's own random streams.

    broken     {point: what was found} of the points that fail: repeatable, padding, batch, parts
    unchecked  {point: why} of those that memory did not allow; a point that raises is broken
    blind      share of the positions of a full example that cannot move any answer; null if it was not found
    reach      of exams that report their answers by octave of distance, how far back an answer can see
               (lra.check.readout.reached); null of others, or if it was not found
    seconds
    """
    begin = time.perf_counter()
    broken: dict[str, str] = {}
    unchecked: dict[str, str] = {}
    share = reach = None
    with own_randomness(settings.seed):
        model = build.model(settings, exam).to(device).eval()
        batch = exam.synthetic(ROWS, torch.device("cpu")).to(torch.device(device))
        for name, point in POINTS.items():
            if (wrong := _asked(name, lambda point=point: point(model, batch), unchecked)) is not None:
                broken[name] = wrong
        one = type(batch)(*(t[:1] for t in batch))
        found = _asked("blind", lambda: blind(model, one, exam.vocab_size, settings.seed), unchecked)
        if isinstance(found, Tensor):
            share = float(found.float().mean())
        elif found is not None:
            broken["blind"] = found
        if share is not None and (asked := octaves(getattr(exam, "kinds", ()))) and asked[0] == "distance":
            far = _asked("reach", lambda: reached(model, one, exam.vocab_size, asked[1], settings.seed), unchecked)
            reach = far if isinstance(far, list) else None
    seconds = round(time.perf_counter() - begin, 3)
    return {"broken": broken, "unchecked": unchecked, "blind": share, "reach": reach, "seconds": seconds}


def _asked(name: str, point: Callable[[], Any], unchecked: dict[str, str]) -> Any:
    """What the point finds; its exception's line if it raises, null if it ran out of memory, which is noted."""
    try:
        return point()
    except Exception as error:
        if is_oom(error):
            unchecked[name] = "out of memory"
            return None
        return f"{type(error).__name__}: {first_line(error)}"[:300]


@torch.no_grad()
def repeatable(model: nn.Module, batch: Any) -> str | None:
    """Two calls in `eval()` agree to the bit."""
    first, second = model(batch.tokens, batch.mask), model(batch.tokens, batch.mask)
    if not torch.equal(first, second):
        return f"two calls in eval() differ by {difference(first, second):.1e}"
    return None


@torch.no_grad()
def padding(model: nn.Module, batch: Any) -> str | None:
    """Neither what stands in the padding nor how much of it there is moves an answer."""
    length = batch.tokens.shape[-1]
    widest = max(1, length - max(1, length // 8))
    mask = _mask(batch.tokens, [max(1, length // 2), widest, 1])
    tokens = batch.tokens * mask
    found = {"other tokens in the padding": _change(model, (batch.tokens, mask), (tokens, mask), mask)}
    short = tokens[..., :widest], mask[..., :widest]
    found[f"{length - widest} columns of padding more"] = _change(model, (tokens, mask), short, short[1])
    return _worst(found)


def batch(model: nn.Module, batch: Any) -> str | None:
    """An example's answer is the same whatever lies beside it, and no gradient crosses while training."""
    alone = batch.tokens[:1], batch.mask[:1]
    with torch.no_grad():
        change = _change(model, (batch.tokens, batch.mask), alone, batch.mask)
    if wrong := _worst({"the other examples of the batch": change}):
        return wrong
    model.train()
    grads = gradients(model, lambda: model(batch.tokens, batch.mask)[0], batch.tokens)
    model.eval()
    crossing = _crossing(grads, batch.tokens)
    if not crossing:
        return None
    wrong = f"while training, {crossing:.1e} of an answer's gradient reaches its companions"
    return wrong if (who := couples(model)) is None else f"{wrong}, as is to be expected of {who}"


def parts(model: nn.Module, batch: Any) -> str | None:
    """While training, the gradient of a batch is that of its parts, unless the model says that it couples them."""
    length = batch.tokens.shape[-1]
    mask = _mask(batch.tokens, [max(1, length // 2), length, 1])
    found, what = divided(model, batch.tokens * mask, mask, [[1], [0, 2]])
    model.eval()
    return f"in parts, a batch has another gradient, by {found:.1e}" if what == "other" else None


def _crossing(grads: list[Tensor], tokens: Tensor) -> float:
    """The largest gradient at other rows than the first, relative to that of the first; 0 below NOTHING."""
    for grad in grads:
        rows = grad.reshape(len(tokens), -1).abs().amax(-1)
        if rows[1:].max() > NOTHING * rows[0].clamp(min=1e-30):
            return float(rows[1:].max() / rows[0].clamp(min=1e-30))
    return 0.0


POINTS: dict[str, Callable[[nn.Module, Any], str | None]] = {
    "repeatable": repeatable,
    "padding": padding,
    "batch": batch,
    "parts": parts,
}


def _mask(tokens: Tensor, lengths: list[int]) -> Tensor:
    """True on the first `lengths[b]` positions of every document of row b."""
    rows = torch.tensor(lengths, device=tokens.device).view(-1, *[1] * (tokens.dim() - 1))
    return (torch.arange(tokens.shape[-1], device=tokens.device) < rows).expand(tokens.shape)


def _change(model: nn.Module, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], mask: Tensor) -> float:
    """How far the answers to two inputs lie apart, over the rows and real positions that both have."""
    a, b = model(*one), model(*other)
    a = a[: len(b)]
    if a.dim() == 3:
        a, b = a[:, : b.shape[1]][mask[: len(b)]], b[mask[: len(b)]]
    return difference(a, b)


def _worst(found: dict[str, float]) -> str | None:
    what, most = max(found.items(), key=lambda pair: pair[1])
    return None if most <= TOLERANCE else f"{what} move an answer by {most:.1e}, allowed is {TOLERANCE:.0e}"
