"""The abilities ask for what is far away: rules that are learnt from all that is near or counted stay at the floor.

A linear and a boosted model see the position asked for, how often each token occurs, the tokens within 2 and the first
and last 16. A planted leak of 5 points is found by the same means.
"""

from __future__ import annotations

import numpy as np
import pytest

from lra.settings import build, compose
from lra.tasks.ability.base import Ability
from lra.tasks.base import NOT_ASKED

pytestmark = pytest.mark.slow

EXAMS = (
    "needle", "recall", "recall_adjacent", "shift", "select", "compress", "flipflop", "state", "state_s3", "hops",
    "brackets", "smooth",
)  # fmt: skip
TRAIN, TEST, ENDS, CHUNK = 100_000, 20_000, 16, 5000


def exam(name: str) -> Ability:
    return build.task(compose.config([f"task={name}", "model=transformer", "budget=ability", "task.sizes=[4000,50]"]))


def seen(task: Ability, begin: int, count: int, leak: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one answer an item: counts (n, V), tokens (n, 5 + 2 * 16) and the place (n, 1); its label (n,)."""
    parts = []
    for start in range(begin, begin + count, CHUNK):
        items = task.split("train").drawn(np.arange(start, min(start + CHUNK, begin + count)))
        tokens, n = items.tokens.copy(), len(items.tokens)
        draw = np.random.Generator(np.random.PCG64(start))
        weight = draw.random(items.labels.shape) * (items.labels != NOT_ASKED)
        at = weight.argmax(1)
        label = items.labels[np.arange(n), at]
        if leak:
            told = draw.random(n) < leak
            tokens[told, 0] = 1 + label[told]
        wide = np.pad(tokens, ((0, 0), (2, 2)))
        near = np.stack([wide[np.arange(n), at + i] for i in range(5)], 1)
        counts = np.stack([np.bincount(row, minlength=task.vocab_size) for row in tokens])
        parts.append((counts, np.hstack((near, tokens[:, :ENDS], tokens[:, -ENDS:])), at[:, None], label))
    counts, nominal, place, label = map(np.concatenate, zip(*parts, strict=True))
    return counts, np.hstack((nominal, place)), label


def scores(task: Ability, leak: float = 0.0) -> dict[str, float]:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import OneHotEncoder

    counts, nominal, label = seen(task, 0, TRAIN, leak)
    more_counts, more_nominal, asked = seen(task, TRAIN, TEST, leak)
    encoder = OneHotEncoder(handle_unknown="ignore").fit(nominal)
    linear = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=15, tol=None, random_state=0)
    linear.fit(hstack((csr_matrix(counts / 8.0), encoder.transform(nominal))).tocsr(), label)
    boosted = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.2, max_leaf_nodes=31, random_state=0)
    boosted.fit(np.hstack((counts, nominal)), label)
    wide = hstack((csr_matrix(more_counts / 8.0), encoder.transform(more_nominal))).tocsr()
    return {
        "linear": linear.score(wide, asked),
        "boosted": boosted.score(np.hstack((more_counts, more_nominal)), asked),
    }


def known(task: Ability) -> float:
    """The best that is known to be had from these features: the floor, and in recall the value shown most often."""
    asked = task.split("valid")
    rules = [r for name, r in task.rules().items() if name in ("majority", "window5", "most_shown")]
    right = [(rule(task.split("train"), asked) == asked.labels)[asked.labels != NOT_ASKED].mean() for rule in rules]
    return max(*right, task.levels("valid")[0])


@pytest.mark.parametrize("name", EXAMS)
def test_what_is_near_tells_nothing(name: str) -> None:
    task = exam(name)
    found, floor = scores(task), known(task)
    assert all(score < floor + 0.02 for score in found.values()), (found, floor)


@pytest.mark.parametrize("name", ["needle", "shift", "state"])
def test_a_planted_leak_is_found(name: str) -> None:
    task = exam(name)
    floor = known(task)
    share = 0.05 / (1 - floor)  # of the items tell, in their first token: 5 points
    assert max(scores(task, share).values()) > floor + 0.02
