"""Anybody's layer as a mixer, from YAML alone: `(B, L, D) -> (B, L, D)`, as packages offer them.

    model:
      mixer:
        _target_: models.wrap.Wrapped
        _partial_: true
        of: {_target_: local_attention.LocalMHA, _partial_: true, window_size: 64}
        mask: mask

Whether the layer then keeps the contract of a mixer is for `python -m lra.check` to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.factory import name_of
from lra.models.parts.heads import all_real


class Wrapped(nn.Module):
    """A mixer around a layer that is called as `layer(x)` or `layer(x, mask=mask)`.

    of        factory of the layer (Hydra `_partial_: true`); handed those facts of a mixer that its
              `__init__` names: dim, heads, qkv_dim, head_dim, max_len, dropout, layer, depth, shared
    names     for parameters of other names, {theirs: ours}, as {embed_dim: dim, seq_len: max_len}
    mask      how the layer learns which tokens are real: the keyword of its forward that takes True
              on real ones, as `mask`; with a tilde one that takes True on padding, as
              `~key_padding_mask`; null: not at all
    alone     for a layer without a mask that would mix padding in: each example goes through it by
              itself, cut to its real tokens (those of one length together). Exact, and as slow as
              that is; a measured step, which is full, does not show it
    multiple  the layer takes only multiples of this length: filled up with padding, then cut
    inputs    how often x is passed: 3 for a layer called as `layer(query, key, value)`

    Padding is zero when it enters the layer and when it leaves, in every case. That is enough for
    convolutions and for recurrences from left to right; softmax attention still spends weight on a
    zero, so without a mask it needs `alone`. A layer may also take the keyword and ignore it. Both
    move the answer with the amount of padding, which `lra.check` finds.

    forward: (B, L, D), (B, L) -> (B, L, D). A layer that returns a tuple gives its first entry.

    Raises ValueError if `names` asks for a fact that there is none of, if `mask` is no keyword that
    the layer's forward takes, or if `alone` is combined with `mask` or `multiple`.
    """

    def __init__(
        self,
        of: Callable[..., nn.Module],
        names: Mapping[str, str] | None = None,
        mask: str | None = None,
        alone: bool = False,
        multiple: int = 1,
        inputs: int = 1,
        **facts: Any,
    ) -> None:
        super().__init__()
        if "qkv_dim" in facts and "heads" in facts:
            facts["head_dim"] = facts["qkv_dim"] // facts["heads"]
        for theirs, ours in (names or {}).items():
            if ours not in facts:
                raise ValueError(f"model.mixer.names.{theirs}: {ours!r} is not one of {', '.join(sorted(facts))}")
            facts[theirs] = facts[ours]
        if alone and (mask or multiple > 1):
            raise ValueError("model.mixer.alone: true needs no mask and no multiple: an example alone has no padding")
        if multiple < 1 or inputs < 1:
            raise ValueError(f"model.mixer: multiple {multiple} and inputs {inputs} must be at least 1")
        self.alone, self.multiple, self.inputs = alone, multiple, inputs
        self.layer = of(**_wanted(of, facts))
        self.keyword, self.of_padding = (mask or "").removeprefix("~"), (mask or "").startswith("~")
        if self.keyword and not _takes(self.layer.forward, self.keyword):
            raise ValueError(f"model.mixer.mask: the forward of {name_of(of)} takes no {self.keyword!r}")

    def call(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The layer itself on x (B, L, D); `mask` (B, L) goes to the keyword, if there is one."""
        length = x.shape[1]
        more = -length % self.multiple
        if more:
            x = F.pad(x, (0, 0, 0, more))
            mask = None if mask is None else F.pad(mask, (0, more))
        words = {}
        if self.keyword and mask is not None:
            words = {self.keyword: ~mask if self.of_padding else mask}
        y = self.layer(*[x] * self.inputs, **words)
        return (y[0] if isinstance(y, tuple) else y)[:, :length]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.alone:
            return self.call(x) if all_real(mask) else self.one_by_one(x, mask)
        hidden = ~mask.unsqueeze(-1)
        # An empty document keeps one token, zero, because a softmax over no key is not a number.
        seen = mask.clone()
        seen[:, 0] |= ~mask.any(1)
        return self.call(x.masked_fill(hidden, 0), seen).masked_fill(hidden, 0)

    def one_by_one(self, x: Tensor, mask: Tensor) -> Tensor:
        """Examples with equally many real tokens together, without their padding."""
        counts, out = mask.sum(1), x.new_zeros(x.shape)
        for count in counts.unique().tolist():
            if count:
                here = mask & (counts == count).unsqueeze(1)
                y = self.call(x[here].unflatten(0, (-1, count)))
                out[here] = y.flatten(0, 1).to(out.dtype)
        return out


def _takes(forward: Callable, keyword: str) -> bool:
    parameters = inspect.signature(forward).parameters
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _wanted(factory: Callable, facts: dict[str, Any]) -> dict[str, Any]:
    """Those of `facts` that `factory` names and the configuration has not bound already.

    Unlike in `models.factory`, **kwargs asks for nothing: packages hand theirs on to where a
    surplus argument is an error.
    """
    named = set(inspect.signature(factory).parameters) - set(getattr(factory, "keywords", ()))
    if facts.get("rotary") and "rotary" not in named:
        raise ValueError(f"model.position: rotary is not possible for {name_of(factory)}; use learned or sinusoidal")
    return {name: value for name, value in facts.items() if name in named}
