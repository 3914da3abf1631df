"""Smooth: a bit under noise, that seldom switches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn, Items
from lra.tasks.base import Split


class Smooth(Ability):
    """What is the bit under the noise? (Smoothing of a hidden Markov model: Rabiner 1989.)

    A hidden bit is fair at first and switches before each later position with probability `switch`; the token is the
    bit, flipped with probability `flip`. Asked everywhere: the hidden bit. The ceiling is that of forward-backward.
    """

    standard_len = 128
    ceiling_rule = "forward_backward"
    ranges: ClassVar = {"switch": (0.001, 0.5), "flip": (0.001, 0.5)}

    def __init__(
        self, name: str = "smooth", max_len: int = 128, switch: float = 1 / 64, flip: float = 0.35, **common: Any
    ) -> None:
        super().__init__(name, max_len, {"switch": switch, "flip": flip}, **common)
        self.switch, self.flip, self.num_classes, self.symbols = switch, flip, 2, ("0", "1")

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        _, _, kinds = blank(len(source), self.max_len, 0)
        turns = source.happens("switch", self.max_len, self.switch)
        turns[:, 0] = source.happens("first", 1, 0.5)[:, 0]
        hidden = np.cumsum(turns, axis=1) % 2
        tokens = 1 + (hidden ^ source.happens("flip", self.max_len, self.flip))
        return Drawn(tokens, hidden, kinds)

    def posterior(self, bits: np.ndarray) -> np.ndarray:
        """Joint probability (n, L, 2) of bits (n, L) and of the hidden bit at each position, up to a factor of the
        row: forward times backward (Rabiner 1989, equations 19 to 27)."""
        seen = np.where(bits[..., None] == [0, 1], 1 - self.flip, self.flip)
        moves = np.array([[1 - self.switch, self.switch], [self.switch, 1 - self.switch]])
        ahead, behind = np.empty_like(seen), np.ones_like(seen)
        ahead[:, 0] = seen[:, 0] / 2
        for t in range(1, bits.shape[1]):
            ahead[:, t] = ahead[:, t - 1] @ moves * seen[:, t]
            ahead[:, t] /= ahead[:, t].sum(1, keepdims=True)
        for t in range(bits.shape[1] - 2, -1, -1):
            behind[:, t] = (behind[:, t + 1] * seen[:, t + 1]) @ moves
            behind[:, t] /= behind[:, t].sum(1, keepdims=True)
        return ahead * behind

    def forward_backward(self, train: Items, test: Items) -> np.ndarray:
        """The ceiling: the likelier bit, from all tokens and the true probabilities."""
        return self.posterior(test.all.tokens - 1).argmax(-1)

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        return super().rules() | {"forward_backward": self.forward_backward}

    def ceiling(self) -> float | None:
        return None

    def floor(self, reach: int, split: str = "test") -> float | None:
        """Of all tokens within reach, by their probabilities."""
        last = self.max_len - 1
        sights = [(min(reach, t), min(reach, last - t)) for t in range(self.max_len)]
        known = {sight: self.within(*sight) for sight in set(sights)}
        return float(np.mean([known[sight] for sight in sights]))

    def within(self, before: int, after: int) -> float:
        """Share that is right of the likelier bit, from the own token and so many before and after it."""
        moves = np.array([[1 - self.switch, self.switch], [self.switch, 1 - self.switch]])
        seen = np.array([[1 - self.flip, self.flip], [self.flip, 1 - self.flip]])  # [hidden, token]
        right = 0.0
        for bits in product((0, 1), repeat=before + after + 1):
            left, rest = np.array([0.5, 0.5]), np.ones(2)
            for bit in bits[:before]:
                left = (left * seen[:, bit]) @ moves
            for bit in reversed(bits[before + 1 :]):
                rest = moves @ (rest * seen[:, bit])
            right += float((left * seen[:, bits[before]] * rest).max())
        return right
