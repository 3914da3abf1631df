"""ListOps expressions: drawn, evaluated and cut short, compiled with numba.

The distribution is that of the official `lra_benchmarks/data/listops.py` (spec section 2): a node
above the depth limit is an operator with probability 1/4 and a digit otherwise; an operator takes
2 to `max_args` arguments; only lengths strictly between `min_length` and `max_length` are kept.
Here the operator is drawn before its arguments, which changes the order of the draws and nothing
else, and a tree is given up as soon as it is too long, which discards what was going to be
discarded.

Tokens are uint8: 1..4 the operators MIN MAX MED SM (each with its bracket), 5..14 the digits
0..9, 15 the closing bracket.
"""

from __future__ import annotations

import numpy as np

from lra.tasks.stream import below, compiled, uniform

VERSION = 1  # raise it whenever the same seed gives other data
MIN, MAX, MED, SM = 1, 2, 3, 4
DIGIT = 5
CLOSE = 15
DEEPEST = 64  # levels that can be open at once


@compiled()
def apply(operator: int, values: np.ndarray, count: int) -> int:
    """Value of an operator over values[:count]. MED averages the middle two and truncates."""
    if operator == MIN:
        return values[:count].min()
    if operator == MAX:
        return values[:count].max()
    if operator == SM:
        return values[:count].sum() % 10
    ordered = np.sort(values[:count])
    return (ordered[(count - 1) // 2] + ordered[count // 2]) // 2


@compiled()
def draw(state: np.ndarray, out: np.ndarray, max_depth: int, max_args: int, max_length: int) -> tuple[int, int]:
    """Draw one tree into `out`; (length, value), or (0, 0) if it reaches `max_length`."""
    operators, missing = np.empty(max_depth, np.int64), np.empty(max_depth, np.int64)
    values, counts = np.empty((max_depth, max_args), np.int64), np.zeros(max_depth, np.int64)
    level = length = 0
    while True:
        if length >= max_length:
            return 0, 0
        if level + 1 < max_depth and uniform(state) <= 0.25:
            operators[level] = 1 + below(state, 4)
            missing[level] = 2 + below(state, max_args - 1)
            counts[level] = 0
            out[length] = operators[level]
            length += 1
            level += 1
            continue
        value = below(state, 10)
        out[length] = DIGIT + value
        length += 1
        while level > 0:
            top = level - 1
            values[top, counts[top]] = value
            counts[top] += 1
            if counts[top] < missing[top]:
                break
            if length >= max_length:
                return 0, 0
            out[length] = CLOSE
            length += 1
            value = apply(operators[top], values[top], counts[top])
            level -= 1
        if level == 0:
            return length, value


@compiled(nogil=True)
def draw_many(
    state: np.ndarray, count: int, min_length: int, max_length: int, max_depth: int, max_args: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` accepted trees: flat tokens uint8, lengths int64, labels uint8."""
    tokens = np.empty(count * max_length, np.uint8)
    lengths, labels = np.empty(count, np.int64), np.empty(count, np.uint8)
    done = used = 0
    while done < count:
        length, value = draw(state, tokens[used:], max_depth, max_args, max_length)
        if min_length < length < max_length:
            lengths[done], labels[done] = length, value
            done += 1
            used += length
    return tokens[:used].copy(), lengths, labels


@compiled()
def evaluate(tokens: np.ndarray, limit: int, stand_in: np.ndarray) -> int:
    """Value of an expression; -1 if it is not one whole well-formed expression.

    An operator deeper than `limit` (root: depth 1) counts as `stand_in[operator]` without a look
    at its arguments; `limit` 0 means no limit.
    """
    if len(tokens) == 0:
        return -1
    operators, counts = np.empty(DEEPEST, np.int64), np.zeros(DEEPEST, np.int64)
    values = np.empty((DEEPEST, 128), np.int64)
    level = 0
    for i in range(len(tokens)):
        token = tokens[i]
        if token < CLOSE and token >= DIGIT:
            value = token - DIGIT
        elif token >= MIN and token <= SM:
            if level == DEEPEST:
                return -1
            operators[level], counts[level] = token, 0
            level += 1
            continue
        elif token == CLOSE and level > 0 and counts[level - 1] > 0:
            level -= 1
            if limit and level + 1 > limit:
                value = stand_in[operators[level]]
            else:
                value = apply(operators[level], values[level], counts[level])
        else:
            return -1
        if level == 0:
            return value if i == len(tokens) - 1 else -1
        if counts[level - 1] == values.shape[1]:
            return -1
        values[level - 1, counts[level - 1]] = value
        counts[level - 1] += 1
    return -1


@compiled()
def count_values(tokens: np.ndarray, depth: int, table: np.ndarray) -> None:
    """Add to table (5, 10) how often each operator at `depth` has each value."""
    level = 0
    start = 0
    for i in range(len(tokens)):
        if tokens[i] <= SM:
            level += 1
            if level == depth:
                start = i
        elif tokens[i] == CLOSE:
            if level == depth:
                value = evaluate(tokens[start : i + 1], 0, np.zeros(5, np.int64))
                table[tokens[start], value] += 1
            level -= 1
