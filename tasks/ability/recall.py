"""Recall: pairs of keys and values are shown, then keys are asked for."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn, Items
from lra.tasks.ability.layout import distinct, laid, pick, put, strings, widths
from lra.tasks.base import DataError, Split

FILLER, BLANK, FIRST_KEY = 1, 2, 3  # tokens
NOISE = 16  # symbols that noise is drawn from


class Recall(Ability):
    """What was the value of this key? (Arora et al. 2023, arXiv 2312.04927, with many queries; Poli et al. 2024,
    arXiv 2403.17844, for noise and fuzzy keys. Theirs are causal, and ask one step before the answer is shown.)

    First the writes, in random order: `pairs` distinct ones of `keys` keys, each with a value of `values`, drawn
    with replacement. Then filler, one symbol, with `queries` queries at uniform places: a key, asked at the key;
    every key at least once if there are as many queries as keys, otherwise no key twice; the rest uniform.

    form      joint: a pair is one of keys x values symbols. adjacent: a key, then its value
    noise r   noise slots of the width of a pair, uniform over 16 symbols of their own, are shuffled among the
              writes; mode=add: round(pairs r / (1 - r)) more; mode=replace (as in MAD): round(pairs r) pairs fewer
    fuzzy f   (adjacent) key and value are 1 to f symbols each, lengths uniform, no symbol twice in one, no key twice;
              a query is the key and one blank for each symbol of its value, asked at the blanks
    updates u of the keys are written twice, with two different values; the later write counts
    fewest n  the number of pairs is each item's own, log-uniform from n to `pairs` (so that a model that is trained
              once shows at which number it fails), reported by octave; 0: always `pairs`
    """

    standard_len = 64
    kinds = ("untouched", "updated")
    ranges: ClassVar = {
        "pairs": (1, 4096), "keys": (1, 8192), "values": (2, 4096), "queries": (1, 65536),
        "form": ("joint", "adjacent"), "noise": (0.0, 0.95), "mode": ("add", "replace"), "fuzzy": (0, 3),
        "updates": (0, 4096), "fewest": (0, 4096),
    }  # fmt: skip

    def __init__(
        self,
        name: str = "recall",
        max_len: int = 64,
        pairs: int = 8,
        keys: int = 16,
        values: int = 8,
        queries: int = 16,
        form: str = "joint",
        noise: float = 0.0,
        mode: str = "add",
        fuzzy: int = 0,
        updates: int = 0,
        fewest: int = 0,
        **common: Any,
    ) -> None:
        options = {
            "pairs": pairs, "keys": keys, "values": values, "queries": queries, "form": form, "noise": noise,
            "mode": mode, "fuzzy": fuzzy, "updates": updates, "fewest": fewest,
        }  # fmt: skip
        super().__init__(name, max_len, options, **common)
        self.num_classes, self.keys, self.queries = values, keys, queries
        self.form, self.fuzzy, self.updates = form, fuzzy, updates
        self.noise = round(pairs * noise) if mode == "replace" else round(pairs * noise / (1 - noise))
        self.pairs = pairs - self.noise if mode == "replace" else pairs
        self.width = 1 if form == "joint" else 2 * max(fuzzy, 1)  # of a write, at most
        self.asks = 2 * fuzzy or 1  # tokens of a query, at most
        self.fewest = fewest
        self.check()
        if fewest:
            octaves = range(fewest.bit_length() - 1, self.pairs.bit_length())
            self.kinds = tuple(f"pairs {1 << octave}" for octave in octaves)
        shown = [f"k{k}v{v}" for k in range(keys) for v in range(values)] if form == "joint" else named("v", values)
        self.symbols = ("filler", "blank", *named("k", keys), *named("noise", NOISE), *shown)
        self.first_noise, self.first_value = FIRST_KEY + keys, FIRST_KEY + keys + NOISE

    def check(self) -> None:
        if self.pairs < 1:
            raise DataError(f"task.noise: {self.options['noise']} leaves no pair of {self.options['pairs']}")
        if self.pairs > self.keys:
            raise DataError(f"task.pairs: {self.pairs} is not at most task.keys, {self.keys}")
        if self.updates > self.pairs:
            raise DataError(f"task.updates: {self.updates} is not at most the number of pairs, {self.pairs}")
        if self.fuzzy and (self.form == "joint" or self.updates):
            raise DataError(f"task.fuzzy: {self.fuzzy} is for task.form=adjacent and task.updates=0")
        if self.fewest and (self.fewest >= self.pairs or self.fuzzy or self.updates or self.noise):
            raise DataError(
                f"task.fewest: {self.fewest} is for more pairs, task.pairs={self.pairs}, and no fuzzy, updates or noise"
            )
        if self.fuzzy > min(self.keys, self.num_classes):
            raise DataError(f"task.fuzzy: {self.fuzzy} is not at most the number of keys and of values")
        noise = self.noise * (1 if self.form == "joint" else 2)
        needed = (self.pairs + self.updates) * self.width + noise + self.queries * self.asks
        if needed > self.max_len:
            raise DataError(f"task.max_len: {self.max_len} leaves no room for these pairs and queries; {needed} do")

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        tokens, labels, kinds = blank(len(source), self.max_len, FILLER)
        keys, values = self.pieces(source)
        held = np.concatenate((np.arange(self.pairs), np.arange(self.updates)))  # the key of each write
        pairs = self.numbers(source)
        writes, wide = keys[:, held], 1 if self.form == "joint" else 2
        left_out = held >= pairs[:, None]
        writes[left_out], values[left_out] = -1, -1
        slots = source.order("slots", len(held) + self.noise)
        spans = np.full(slots.shape, wide)
        spans[:, : len(held)][left_out] = 0
        if self.form == "adjacent":
            spans[:, : len(held)] = widths(writes) + widths(values)
        starts = laid(spans, slots)
        shown = starts[:, : len(held)]
        if self.form == "joint":
            put(tokens, shown, np.where(writes < 0, -1, writes * self.num_classes + values), self.first_value)
        else:
            put(tokens, shown, writes, FIRST_KEY)
            put(tokens, shown + widths(writes), values, self.first_value)
        for i in range(wide):
            noise = source.below(f"noise {i}", self.noise, NOISE)
            put(tokens, starts[:, len(held) :] + i, noise[:, :, None], self.first_noise)
        last = values[:, : self.pairs].copy()
        again = slots[:, self.pairs : len(held)] > slots[:, : self.updates]
        last[:, : self.updates] = np.where(again[:, :, None], values[:, self.pairs :], last[:, : self.updates])
        self.ask(source, Drawn(tokens, labels, kinds), keys, last, spans.sum(1), pairs)
        return Drawn(tokens, labels, kinds)

    def pieces(self, source: Source) -> tuple[np.ndarray, np.ndarray]:
        """Keys (n, pairs, W), and the value of each write (n, writes, W); those written again come last."""
        if self.fuzzy:
            keys = distinct(source, "key", self.pairs, self.keys, self.fuzzy)
            return keys, strings(source, "value", self.pairs, self.num_classes, self.fuzzy)
        keys = source.some("keys", self.pairs, self.keys)
        values = source.below("values", self.pairs, self.num_classes)
        step = 1 + source.below("update", self.updates, self.num_classes - 1)
        values = np.concatenate((values, (values[:, : self.updates] + step) % self.num_classes), axis=1)
        return keys[:, :, None], values[:, :, None]

    def numbers(self, source: Source) -> np.ndarray:
        """Of pairs, (n,): n with probability log((n + 1) / n), up to a factor."""
        if not self.fewest:
            return np.full(len(source), self.pairs)
        below = np.log(np.arange(self.fewest, self.pairs + 1) / self.fewest)
        below /= np.log((self.pairs + 1) / self.fewest)
        drawn = (source.bits("number", 1)[:, 0] >> np.uint64(11)) * 2.0**-53
        return self.fewest - 1 + np.searchsorted(below, drawn, side="right")

    def asked_for(self, source: Source, pairs: np.ndarray) -> np.ndarray:
        """Which pair each query is about, (n, queries), in no order: each once, as far as queries go, then any."""
        order = source.order("each", self.pairs)
        order = np.take_along_axis(order, np.argsort(order >= pairs[:, None], axis=1, kind="stable"), 1)
        rest = np.arange(self.queries) - pairs[:, None]
        any_ = source.below("more", max(self.queries - (self.fewest or self.pairs), 1), pairs[:, None])
        again = np.take_along_axis(any_, rest.clip(0, any_.shape[1] - 1), 1)
        each = order[:, np.arange(self.queries).clip(max=self.pairs - 1)]
        return np.where(rest < 0, each, again)

    def ask(
        self,
        source: Source,
        out: Drawn,
        keys: np.ndarray,
        values: np.ndarray,
        begin: np.ndarray,
        pairs: np.ndarray,
    ) -> None:
        """Put the queries at uniform places from `begin` (n,) on."""
        which = np.take_along_axis(self.asked_for(source, pairs), source.order("turns", self.queries), 1)
        asked, answers = pick(keys, which), pick(values, which)
        behind = widths(asked) if self.fuzzy else np.zeros_like(which)  # where a query is answered
        more = behind + widths(answers) - 1  # tokens beyond its first
        places = source.places_within("queries", self.queries, self.max_len - begin - more.sum(1))
        starts = begin[:, None] + places + np.cumsum(more, axis=1) - more
        put(out.tokens, starts, asked, FIRST_KEY)
        if self.fuzzy:
            put(out.tokens, starts + behind, np.where(answers >= 0, 0, -1), BLANK)
        put(out.labels, starts + behind, answers, 0)
        kind = which < self.updates
        if self.fewest:
            octave = np.frexp(pairs)[1] - self.fewest.bit_length()
            kind = np.broadcast_to(octave[:, None], which.shape)
        put(out.kinds, starts + behind, np.where(answers >= 0, kind[:, :, None], -1), 0)

    def floor(self, reach: int, split: str = "test") -> float | None:
        """Known is a value whose last write the first queries still see."""
        if self.fuzzy or self.fewest or reach > 2:
            return None
        slots, wide = self.pairs + self.updates + self.noise, 1 if self.form == "joint" else 2
        twice = self.updates / self.pairs

        def met(last: int) -> float:
            """Share of the keys that are written in so many last slots."""
            last = min(last, slots)
            both = comb(slots - last, 2) / comb(slots, 2) if twice else 0.0
            return (1 - twice) * last / slots + twice * (1 - both)

        # Joint: the query at offset o behind the writes sees reach - o. Adjacent: at 0 the last pair, at 1 its value.
        seen = sum(met(reach - o) for o in range(reach)) if wide == 1 else reach * met(1)
        known = seen / (self.max_len - slots * wide)
        return known + (1 - known) / self.num_classes

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        return super().rules() | ({} if self.fuzzy else {"most_shown": self.most_shown})

    def most_shown(self, train: Items, test: Items) -> np.ndarray:
        """Everywhere the value that the item shows most often, the first of equals: it knows no key."""
        shown = test.all.tokens - self.first_value
        counts = [((shown >= 0) & (shown % self.num_classes == v)).sum(1) for v in range(self.num_classes)]
        return np.broadcast_to(np.argmax(counts, axis=0)[:, None], shown.shape)
