"""All that training is at the end of a step: a run that goes on from there ends as one that was never stopped.

Model and optimizer, random streams of every process, the curve, the counts and the weights that were best so far;
the place in the data is the number of the step (lra.train.batches.stream is a function of it). What a module keeps
besides parameters and buffers, as numbers of Python, is not seen: keep it in a buffer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

COUNTS = (
    "steps_done", "best_step", "best_accuracy", "best_items", "seconds", "core_seconds", "examples", "tokens",
    "positions", "parts",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """tensors: by name, on the CPU. facts: all else, as JSON holds it."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Saver(Protocol):
    """Who keeps states; training asks it at the end of each step."""

    def wanted(self) -> bool:
        """Should there be a state now?"""

    def keep(self, state: State) -> None:
        """Take it. Raises what ends the run, if somebody has asked for that."""

    def held(self) -> AbstractContextManager[None]:
        """Inside, nothing interrupts: a step is done or not."""


class Unfit(ValueError):
    """A state of another model."""


def captured(trainee: Any, out: Any, watch: Any) -> State:
    """The state between two steps, of all processes: each of them has to ask for it."""
    acc = trainee.acc
    model = acc.unwrap_model(trainee.net)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"buffer.{k}": v for k, v in model.named_buffers() if f"model.{k}" not in tensors}
    tensors |= {f"best.{k}": v for k, v in out.best_state.items()}
    if trainee.average is not None:
        tensors |= {f"average.{k}": v for k, v in trainee.average.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, kept in trainee.optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    streams = [_streams(acc.device)]
    if acc.num_processes > 1:
        from accelerate.utils import gather_object

        streams = gather_object(streams)
    facts = {name: getattr(out, name) for name in COUNTS} | {
        "curve": out.curve,
        "spent": asdict(out.spent),
        "running": watch.running,
        "unread": [float(x) for x in watch.unread],
        "optimizer": numbers,
        "streams": streams,
    }
    return State({k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}, facts)


def restored(trainee: Any, out: Any, watch: Any, state: State) -> None:
    """Make training what it was. Raises Unfit if the state is another model's."""
    acc, facts = trainee.acc, state.facts
    model = acc.unwrap_model(trainee.net)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "buffer": {}, "best": {}, "average": {}, "optimizer": {}}
    for name, value in state.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    try:
        # A buffer that was replaced since the model was built (drawn again, longer) is taken as it was.
        for name, buffer in list(model.named_buffers()):
            kept = parts["model"].get(name, parts["buffer"].get(name))
            if kept is not None:
                _owner(model, name)._buffers[name.rpartition(".")[2]] = kept.to(buffer.device, buffer.dtype)
        model.load_state_dict(parts["model"])
        if trainee.average is not None:
            trainee.average.load_state_dict(parts["average"])
        optimizer = trainee.optimizer.state_dict()
        optimizer["state"] = {int(i): dict(kept) for i, kept in facts["optimizer"].items()}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition(".")
            optimizer["state"].setdefault(int(index), {})[key] = value
        trainee.optimizer.load_state_dict(optimizer)
        for name in COUNTS:
            setattr(out, name, facts[name])
        trainee.steps = out.steps_done
        out.curve, out.best_state = list(facts["curve"]), parts["best"]
        watch.running = facts["running"]
        watch.unread = [torch.tensor(x, device=acc.device) for x in facts["unread"]]
        _set_streams(facts["streams"][acc.process_index], acc.device)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise Unfit(f"it does not fit this run ({str(error).splitlines()[0]})") from error


def _owner(model: Any, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


def _streams(device: torch.device) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": torch.cuda.get_rng_state(device).numpy().tobytes().hex() if device.type == "cuda" else None,
    }


def _set_streams(found: Mapping[str, Any], device: torch.device) -> None:
    version, words, gauss = found["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = found["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(_bytes(found["torch"]))
    if device.type == "cuda" and found["cuda"]:
        torch.cuda.set_rng_state(_bytes(found["cuda"]), device)


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


def packed(state: State) -> bytes:
    """The tensors as safetensors, which cannot run code."""
    from safetensors.torch import save

    return save(state.tensors)


def unpacked(content: bytes, facts: Mapping[str, Any]) -> State:
    """Raises ValueError if the content is not safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return State(load(content), dict(facts))
    except SafetensorError as error:
        raise ValueError(str(error).splitlines()[0]) from error
