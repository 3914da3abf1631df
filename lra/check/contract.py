"""The contract of `models`: shapes, numbers, gradients, and who must not change whose answer."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.check.divided import divided
from lra.check.subject import CLASSES, TOLERANCE, Finding, Subject, difference, padded, plural
from lra.measure.gauges import resident_bytes
from lra.settings.own import Asked
from lra.train.parts import couples

NOTHING = 1e-9  # a gradient below this share of the largest is no path: weights that underflow leave such


def size(subject: Subject) -> Finding:
    """Parameters and state: nothing to pass or fail."""
    model = subject.build()
    parameters = sum(p.numel() for p in model.parameters())
    mixing = sum(p.numel() for n, p in model.named_parameters() if ".mixer." in n)
    state = resident_bytes([*model.parameters(), *model.buffers()])
    numbers = {"parameters": parameters, "mixer_parameters": mixing, "state_bytes": state, "length": subject.length}
    text = f"{parameters:,} parameters, {mixing:,} of them in mixers; {state / 2**20:.2f} MiB at {subject.length:,}"
    return Finding("size", "ok", text, numbers)


def shapes(subject: Subject) -> Finding:
    """The stack keeps (B, L, D), the model gives (B, C), for any L and for one or two documents."""
    name, most = "shapes", subject.length
    lengths = sorted({n for n in (1, 2, 3, 31, 63, 64, 65, 127, most - 1, most) if 1 <= n <= most})
    model = subject.build().eval()
    with torch.no_grad():
        for length in lengths:
            x = subject.states(2, length)
            y = model.stack(x, torch.ones(2, length, dtype=torch.bool))
            if y.shape != x.shape or y.dtype != x.dtype:
                was, now = tuple(x.shape), tuple(y.shape)
                return Finding(name, "fail", f"the stack turns {was} {x.dtype} into {now} {y.dtype}")
            logits = model(subject.tokens(2, length), torch.ones(2, length, dtype=torch.bool))
            if logits.shape != (2, CLASSES):
                return Finding(name, "fail", f"logits of 2 examples are {tuple(logits.shape)}, not {(2, CLASSES)}")
        pairs = subject.build(documents=2).eval()
        tokens = subject.tokens(4, min(most, 65)).unflatten(0, (2, 2))
        logits = pairs(tokens, torch.ones_like(tokens, dtype=torch.bool))
    if logits.shape != (2, CLASSES):
        return Finding(name, "fail", f"logits of 2 pairs of documents are {tuple(logits.shape)}, not {(2, CLASSES)}")
    return Finding(name, "ok", f"L = {', '.join(map(str, lengths))}; one and two documents", {"lengths": lengths})


def finite(subject: Subject) -> Finding:
    """Outputs and gradients are numbers: full rows, short ones, one token, an empty document."""
    length = min(subject.length, 200)
    model = subject.build().train()
    rows = [length, max(1, length // 3), 1, 0]
    mask = padded(rows, length)
    loss = F.cross_entropy(model(subject.tokens(4, length) * mask, mask), torch.arange(4) % CLASSES)
    loss.backward()
    wrong = [n for n, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    with torch.no_grad():
        logits = model.eval()(subject.tokens(4, length) * mask, mask)
    bad = [plural(n, "token") for n, row in zip(rows, logits, strict=True) if not torch.isfinite(row).all()]
    if bad:
        return Finding("finite", "fail", f"logits are not finite for a row with {', '.join(bad)} in {length}")
    if wrong:
        return Finding("finite", "fail", f"a gradient is not finite: {some(wrong)}", {"parameters": wrong})
    return Finding("finite", "ok", f"outputs and gradients, rows with {', '.join(map(str, rows))} tokens of {length}")


def gradients(subject: Subject) -> Finding:
    """Every parameter gets a gradient, from the loss or from some output of the stack (a last layer
    whose pooled position has projections of its own rightly leaves others alone).

    The parameters are moved a little from where they start, so that a gate or a projection which
    starts at zero does not hide what is behind it.
    """
    length = min(subject.length, 700)
    model = subject.build().train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).mul_(0.02))
    mask = padded([length, max(1, length // 2)], length)
    outputs: list[Tensor] = []
    model.stack.register_forward_hook(lambda stack, given, y: outputs.append(y))
    loss = F.cross_entropy(model(subject.tokens(2, length) * mask, mask), torch.tensor([1, 2]))
    back = torch.randn(outputs[0].shape, generator=generator)
    (loss + (outputs[0] * back).mean()).backward()
    missed = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    count = len(list(model.parameters()))
    if missed:
        text = f"no gradient reaches {some(missed)}"
        return Finding("gradients", "fail", text, {"unreached": missed, "frozen": frozen})
    also = f"; {plural(len(frozen), 'tensor')} frozen on purpose" if frozen else ""
    return Finding("gradients", "ok", f"reach all {count} parameter tensors{also}", {"unreached": [], "frozen": frozen})


def some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def repeatable(subject: Subject) -> Finding:
    """Two calls in `eval()` agree to the bit."""
    length = min(subject.length, 200)
    model = subject.build().eval()
    mask = padded([length, max(1, length // 2)], length)
    tokens = subject.tokens(2, length) * mask
    with torch.no_grad():
        first, second = model(tokens, mask), model(tokens, mask)
    if not torch.equal(first, second):
        text = f"two calls in eval() differ by {difference(first, second):.1e}: something is drawn anew in forward"
        return Finding("repeatable", "fail", text)
    return Finding("repeatable", "ok", "two calls in eval() agree to the bit")


def padding(subject: Subject) -> Finding:
    """Neither what stands in the padding nor how much of it there is moves an answer."""
    length = min(subject.length, 200)
    rows = [max(1, length // 2), max(1, length - 37), 1]
    widest, model = max(rows), subject.build().eval()
    mask = padded(rows, length)
    tokens = subject.tokens(3, length)
    x = subject.states(3, length)
    filled = torch.where(mask[..., None], x, 1e3 * subject.states(3, length, seed=1))
    found = {}
    with torch.no_grad():
        y = model.stack(x, mask)
        found["other numbers in the padding"] = difference(model.stack(filled, mask)[mask], y[mask])
        logits = model(tokens * mask, mask)
        found["other tokens in the padding"] = difference(model(tokens, mask), logits)
        cut = model(tokens[:, :widest] * mask[:, :widest], mask[:, :widest])
        found[f"{length - widest} columns of padding more"] = difference(logits, cut)
        one = model(tokens[:1, : rows[0]], mask[:1, : rows[0]])
        found["no padding at all"] = difference(logits[:1], one)
    leaf = x.clone().requires_grad_()
    model.train().stack(leaf, mask)[mask].square().sum().backward()
    leak = float(leaf.grad[~mask].abs().max() / leaf.grad[mask].abs().max().clamp(min=1e-30))
    numbers = {"differences": found, "gradient_at_padding": leak}
    cause, worst = max(found.items(), key=lambda item: item[1])
    if not worst <= TOLERANCE:
        text = f"{cause}: the answer moves by {worst:.1e}, allowed is {TOLERANCE:.0e}"
        return Finding("padding", "fail", text, numbers)
    if not leak <= NOTHING:
        text = f"a real position depends on a padded one: its gradient there is {leak:.1e} of that at real ones"
        return Finding("padding", "fail", text, numbers)
    return Finding("padding", "ok", f"moves the answer by at most {worst:.1e}; no gradient reaches it", numbers)


def batch(subject: Subject) -> Finding:
    """No example sees another of its batch, in `eval()` by value and while training by gradient."""
    length = min(subject.length, 200)
    rows = [length, max(1, length // 2), length, max(1, length // 5)]
    model = subject.build().eval()
    mask = padded(rows, length)
    tokens = subject.tokens(4, length) * mask
    with torch.no_grad():
        together = model(tokens, mask)
        alone = torch.cat([model(tokens[i : i + 1], mask[i : i + 1]) for i in range(4)])
        turned = model(tokens.flip(0), mask.flip(0)).flip(0)
    worst = max(difference(together, alone), difference(turned, alone))
    leaf = subject.states(4, length).requires_grad_()
    model.train().stack(leaf, mask)[0].square().sum().backward()
    crossing = float(leaf.grad[1:].abs().max() / leaf.grad[0].abs().max().clamp(min=1e-30))
    numbers = {"difference": worst, "gradient_of_companions": crossing}
    if not worst <= TOLERANCE:
        text = f"the companions of an example move its answer by {worst:.1e}, allowed is {TOLERANCE:.0e}"
        return Finding("batch", "fail", text, numbers)
    if not crossing <= NOTHING:
        text = f"while training, an example's gradient reaches its companions, with {crossing:.1e} of its own"
        text += "" if (who := couples(model)) is None else f", as is to be expected of {who}"
        return Finding("batch", "fail", text, numbers)
    return Finding("batch", "ok", f"companions move the answer by at most {worst:.1e}; no gradient crosses", numbers)


def parts(subject: Subject) -> Finding:
    """While training, the gradient of a batch is that of its parts: what is drawn is told, nothing is coupled."""
    length = min(subject.length, 200)
    rows = [length, 1, max(1, length // 2), length, max(1, length // 5)]
    mask, model = padded(rows, length), subject.build()
    found, what = divided(model, subject.tokens(5, length) * mask, mask, [[3, 0], [2, 4], [1]])
    numbers = {"difference": found, "what": what}
    if what == "same":
        return Finding("parts", "ok", f"the gradient of a batch and that of its parts differ by {found:.1e}", numbers)
    if what == "coupled":
        return Finding("parts", "note", f"batches stay whole: {couples(model)} couples their examples", numbers)
    if what == "drawn":
        text = "torch's generator is drawn from while training: parts change the numbers drawn, not their law"
        return Finding("parts", "note", text, numbers)
    text = f"in parts, a batch has another gradient, by {found:.1e}: what couples examples says couples_examples = True"
    return Finding("parts", "fail", text, numbers)


def answer(subject: Subject) -> dict[str, object]:
    """What another process must find again: a digest of the state and some logits."""
    length = min(subject.length, 200)
    model = subject.build().eval()
    mask = padded([length, max(1, length // 2)], length)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    with torch.no_grad():
        logits = model(subject.tokens(2, length) * mask, mask)
    return {"state": digest.hexdigest(), "logits": logits.tolist()}


def process(subject: Subject, what: Asked) -> Finding:
    """A second process, with another hash seed, builds the same model and gives the same answer."""
    here = answer(subject)
    command = [sys.executable, "-m", "lra.check", "--answer", "--length", str(subject.length), *what.words]
    if what.config_dir is not None:
        command += ["--config-dir", what.config_dir]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = what.environment | {"PYTHONHASHSEED": seed}
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        return Finding("process", "fail", f"a second process fails: {last}")
    there = json.loads(child.stdout.splitlines()[-1])
    if here["state"] != there["state"]:
        text = "the same seed gives other parameters or buffers in a second process: something depends on the hash seed"
        return Finding("process", "fail", text)
    worst = difference(torch.tensor(there["logits"]), torch.tensor(here["logits"]))
    if not worst <= TOLERANCE:
        text = f"a second process answers otherwise by {worst:.1e}, allowed is {TOLERANCE:.0e}"
        return Finding("process", "fail", text)
    return Finding("process", "ok", f"a second process with another hash seed differs by {worst:.1e}")


def bf16(subject: Subject) -> Finding:
    """How far bfloat16 is from float32: under autocast, which is how runs use it, and as parameters."""
    length = min(subject.length, 200)
    model = subject.build().eval()
    mask = padded([length, max(1, length // 2)], length)
    tokens, x = subject.tokens(2, length) * mask, subject.states(2, length)
    with torch.no_grad():
        exact = model.stack(x, mask)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = model.stack(x, mask)
            logits = model(tokens, mask)
    cast: nn.Module = subject.build().bfloat16().train()
    loss = F.cross_entropy(cast(tokens, mask).float(), torch.tensor([1, 2]))
    loss.backward()
    with torch.no_grad():
        whole = cast.eval().stack(x.bfloat16(), mask)
    wrong = [n for n, p in cast.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    if not (torch.isfinite(narrow[mask]).all() and torch.isfinite(logits).all() and torch.isfinite(whole[mask]).all()):
        return Finding("bf16", "fail", "outputs are not finite in bfloat16")
    if wrong or not torch.isfinite(loss):
        return Finding("bf16", "fail", f"a gradient is not finite in bfloat16: {some(wrong)}")
    drifts = [float((y[mask].float() - exact[mask]).norm() / exact[mask].norm()) for y in (narrow, whole)]
    numbers = {"drift_autocast": drifts[0], "drift_parameters": drifts[1]}
    text = f"drifts {drifts[0]:.1%} from float32 under autocast, {drifts[1]:.1%} with bfloat16 parameters"
    return Finding("bf16", "note" if max(drifts) > 0.1 else "ok", text, numbers)
