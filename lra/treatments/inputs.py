"""The inputs of an exam as an exam of their own: tell the tokens that are hidden, or the next one at every position.

The labels of the exam play no part. What is hidden follows from the seed, the split and the number of the item, so that
neither batches nor their parts, processes or an interruption change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lra.tasks.base import NOT_ASKED, SPLITS, Example, Split, Task, counted

OBJECTIVES = ("masked", "causal")
REACH = 2  # tokens to either side that the rule sees which is to be beaten
MOST = 400_000  # tokens that it counts
WEIGHTS = (0.5, 2.0, 8.0, 32.0)


class Inputs:
    """A Split: every document of `split` by itself, `copies` times, each with other tokens hidden.

    Hidden tokens are `hidden`, and their labels the tokens themselves; at least one of a document is. hidden: null
    asks for the next token at every position but the last, and hides none.
    """

    def __init__(self, split: Split, documents: int, hidden: int | None, share: float, copies: int, key: Sequence[int]):
        self.split, self.documents, self.hidden, self.share = split, documents, hidden, share
        self.key, self.endless = tuple(key), counted(split) is None
        repeats = 1 if self.endless else documents * (1 if hidden is None else copies)
        self.lengths = split.lengths if repeats == 1 else np.tile(split.lengths, repeats)
        self.labels = self.lengths  # of no use: answers stand at positions

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        tokens = self.document(index)
        labels = np.full(len(tokens), NOT_ASKED, np.int64)
        if self.hidden is None:
            labels[:-1] = tokens[1:]
            return Example((tokens,), labels)
        draw = np.random.Generator(np.random.PCG64([*self.key, index]))
        gone = draw.random(len(tokens)) < self.share
        gone[draw.integers(len(tokens))] |= not gone.any()
        labels[gone] = tokens[gone]
        return Example((np.where(gone, self.hidden, tokens),), labels)

    def document(self, index: int) -> np.ndarray:
        """int64 (L,)."""
        rest = index if self.endless else index % (len(self.split) * self.documents)
        item, which = (rest, 0) if self.documents == 1 else divmod(rest, self.documents)
        return np.asarray(self.split[item].documents[which], np.int64)


class Guess(Task):
    """An exam over the inputs of `exam`: classes are its tokens, and id `exam.vocab_size` is a hidden one.

    copies: how often an item of train comes before the same tokens of it are hidden again.
    """

    answers = "token"

    def __init__(self, exam: Any, objective: str, share: float, copies: int, seed: int) -> None:
        super().__init__(exam.name, exam.max_len, pad_to=exam.pad_to, pad_multiple=exam.pad_multiple)
        self.standard_len, self.exam = exam.max_len, exam
        self.num_classes, self.vocab_size = exam.vocab_size, exam.vocab_size + 1
        self.hidden = exam.vocab_size if objective == "masked" else None
        self.share, self.copies, self.seed = share, copies, seed

    def split(self, name: str) -> Inputs:
        """Of train and valid; nobody is pretrained, or judged, on the inputs of test."""
        copies = self.copies if name == "train" else 1
        key = self.seed, SPLITS.index(name)
        return Inputs(self.exam.split(name), self.exam.documents, self.hidden, self.share, copies, key)

    def near(self) -> float:
        """Loss on valid, nats a token, of the best rule that sees but REACH tokens to either side (causal: before).

        How often a token stood between its neighbours in train, smoothed by how often between fewer of them; of such
        rules, the one that is best on valid. It sees its neighbours even where they are hidden, which no model does.
        """
        train, valid = (self.windows(self.split(name)) for name in ("train", "valid"))
        sides = [-1, 1, -2, 2] if self.hidden is not None else [-1, -2]
        seen = {at: i for i, at in enumerate(range(-REACH, REACH + 1))}
        base = self.vocab_size + 1  # with one for what is beyond an end
        best = np.inf
        for weight in WEIGHTS:
            p = np.full(len(valid), 1.0 / self.num_classes)
            codes = [np.zeros(len(each), np.int64) for each in (train, valid)]
            for at in (None, *sides):
                if at is not None:
                    codes = [c * base + each[:, seen[at]] for c, each in zip(codes, (train, valid), strict=True)]
                whole = [c * base + each[:, seen[0]] for c, each in zip(codes, (train, valid), strict=True)]
                of, both = often(codes[0], codes[1]), often(whole[0], whole[1])
                p = (both + weight * p) / (of + weight)
                best = min(best, float(-np.log(p).mean()))
        return best

    def windows(self, split: Inputs) -> np.ndarray:
        """Of what is asked for, and of train all there is: the token and its neighbours, int64 (N, 2 REACH + 1)."""
        found, total = [], 0
        everything = split.key[-1] == SPLITS.index("train")
        items = len(split.split) * split.documents if not split.endless else len(split)
        for index in range(items):
            labels = split[index].label
            tokens = split.document(index)
            wide = np.pad(tokens, REACH, constant_values=self.vocab_size)
            rows = np.lib.stride_tricks.sliding_window_view(wide, 2 * REACH + 1)
            asked = labels != NOT_ASKED
            if self.hidden is None:  # the label of a position is the next one's token
                asked = np.roll(asked, 1)
            found.append(rows if everything else rows[asked])
            total += len(found[-1])
            if total > MOST:
                break
        return np.concatenate(found)


def often(counted_in: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each of `asked` stands in the other."""
    values, counts = np.unique(counted_in, return_counts=True)
    at = np.searchsorted(values, asked).clip(max=len(values) - 1)
    return np.where(values[at] == asked, counts[at], 0)
