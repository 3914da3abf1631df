"""Pathfinder images: the distribution of the 2019 original (Linsley et al. 2018), compiled.

Nearly all of the work is done on pairs of target snakes that fail (289 tries an image at 32 px,
contour length 14; thousands at 64 px). So a try is kept cheap: it touches one small array, the
occupancy, only where a sprite lies, notes the paddles it laid as numbers of sprites, and paints
nothing before it has succeeded.

Snakes are an integer array (S, n, 3): sprite, row and column of each paddle, which is drawn from
there. Their pivots are (S, 2), the contrasts of their paddles, `ink`, (S, n).

Loops that copy or fill are written out: compiling a slice assignment costs seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lra.tasks.pathfinder.parameters import Parameters
from lra.tasks.pathfinder.sprites import DEGREES, FREE, OVERLAP, SOLID, Tables, build
from lra.tasks.stream import below, compiled, seeded, uniform

VERSION = 1  # of what a seed means
SPRITE, ROW, COLUMN = 0, 1, 2
THIN = np.uint8(OVERLAP - SOLID - 1)  # an occupancy that collides with nothing


class Settings(NamedTuple):
    """The parameters that the compiled code reads itself."""

    size: int
    margins: int
    contour_length: int
    distractor_length: int
    num_distractors: int
    paddle_tries: int
    distractor_tries: int
    snake_contrasts: np.ndarray
    paddle_contrasts: np.ndarray


@compiled(inline="always")
def choose(state, values):
    """One of `values`; nothing is drawn where there is no choice."""
    return values[0] if len(values) == 1 else values[below(state, len(values))]


@compiled(inline="always")
def flat(t, y, x):
    """Index of an image position on the flat canvas."""
    return (y + t.frame) * t.stride + x + t.frame


@compiled()
def plant(t, size, pivot, snake, direction, y, x):
    """Lay the first paddle of a snake from tail (y, x); False if its head or pivot is outside."""
    at = t.first + 6 * direction
    head_y, head_x = np.ceil(y + t.reals[at]), np.ceil(x + t.reals[at + 1])
    pivot[0], pivot[1] = np.ceil(head_y + t.reals[at + 2]), np.ceil(head_x + t.reals[at + 3])
    snake[0, SPRITE], snake[0, ROW], snake[0, COLUMN] = direction, y, x
    inside = 0 <= head_y < size and 0 <= head_x < size
    return inside and 0 <= pivot[0] < size and 0 <= pivot[1] < size


@compiled()
def plant_pair(t, s, state, pivots, snakes, scale, ink):
    """Lay the first paddles of both target snakes; the number of tries it took. (spec 3.4)

    scale (2,): the contrast of each snake.
    """
    count, tries = len(s.snake_contrasts), 0
    while True:
        tries += 1
        i, j = 0, 0
        if count > 1:  # two of a list doubled and shuffled
            i, j = below(state, 2 * count), below(state, 2 * count - 1)
            j += j >= i
            i, j = i % count, j % count
        scale[0], scale[1] = s.snake_contrasts[i], s.snake_contrasts[j]

        ink[0, 0] = scale[0] * choose(state, s.paddle_contrasts)
        planted = False
        for _ in range(s.paddle_tries):
            direction = below(state, DEGREES)
            box = t.seed_box + 4 * direction
            rows, columns = t.words[box + 1] - t.words[box], t.words[box + 3] - t.words[box + 2]
            if rows <= 0 or columns <= 0:
                break
            place = below(state, rows * columns)
            y, x = t.words[box] + place // columns, t.words[box + 2] + place % columns
            planted = plant(t, s.size, pivots[0], snakes[0], direction, y, x)
            if planted:
                break
        if not planted:
            continue

        ink[1, 0] = scale[1] * choose(state, s.paddle_contrasts)
        for _ in range(s.paddle_tries):
            direction = below(state, DEGREES)
            around = t.first + 6 * below(state, DEGREES) + 4
            y = int(np.rint(snakes[0, 0, ROW] + t.reals[around]))
            x = int(np.rint(snakes[0, 0, COLUMN] + t.reals[around + 1]))
            if plant(t, s.size, pivots[1], snakes[1], direction, y, x):
                return tries


@compiled()
def plant_distractor(t, s, state, taken, free, pivots, snakes):
    """Lay the first paddle of a snake anywhere; False if there is no room. (spec 3.6)"""
    for _ in range(s.paddle_tries):
        direction = below(state, DEGREES)
        place = draw_tail(t, state, taken, free, direction)
        if place < 0:
            return False
        if plant(t, s.size, pivots[0], snakes[0], direction, place // s.size, place % s.size):
            return True
    return False


@compiled()
def grow(t, s, state, canvas, before, pivots, snakes, scale, contrasts, ink, totals):
    """Let planted snakes grow in turn, a paddle at a time, on a canvas that starts as `before`;
    False if one of them finds no room. (spec 3.5)

    A new paddle is pending: it occupies its place once the next one of its snake is laid. Of the
    last ones only that of the last snake ever does, as in the original. One function, since numba
    counts references to arrays at each call, which would take longer than laying a paddle;
    unsigned indices, since they cannot be negative, which lets loops become vector code.
    """
    for i in range(len(before)):
        canvas[i] = before[i]
    low, high = -t.radius, s.size - 1 + t.radius
    length = snakes.shape[1]
    for n in range(1, length + 1):
        contrast = choose(state, contrasts) if n < length else 0.0
        for k in range(snakes.shape[0]):
            last, candidate = snakes[k, n - 1, SPRITE], -1
            if n < length:
                y = int(np.ceil(pivots[k, 0] + t.reals[t.step + 2 * last]))
                x = int(np.ceil(pivots[k, 1] + t.reals[t.step + 2 * last + 1]))
                pivots[k, 0], pivots[k, 1] = y, x
                if y < low or y > high or x < low or x > high:
                    return False

                origin = flat(t, y, x)
                begin, end = t.words[t.turn + last], t.words[t.turn + last + 1]
                total = 0.0
                for i in range(begin, end):
                    near = canvas[t.layer + origin + t.words[t.turn_offset + i]]
                    total += t.reals[t.turn_weight + i] * t.reals[t.whiteness + near]
                    totals[i - begin] = total
                if total < 1e-4:
                    return False

                for _ in range(s.paddle_tries):
                    drawn = uniform(state) * total
                    i = begin
                    while totals[i - begin] <= drawn and i < end - 1:
                        i += 1
                    candidate = t.words[t.turn_candidate + i]
                    sprite = DEGREES + candidate
                    start, stop = t.words[t.mask + sprite], t.words[t.mask + sprite + 1]
                    at = origin + t.words[t.turn_offset + i] + t.words[t.mask_from + sprite]
                    collision = np.uint8(0)
                    for j in range(stop - start):
                        left = np.uint8(SOLID - canvas[np.uint64(at + j)])
                        new = np.uint8(max(t.bytes[np.uint64(t.mask_pixel + start + j)], THIN) - THIN)
                        collision = max(collision, np.uint8(max(new, left) - left))
                    if collision == 0:
                        break
                    candidate = -1
                if candidate < 0:
                    return False
                snakes[k, n, SPRITE] = sprite
                snakes[k, n, ROW] = y + t.words[t.candidate + 2 * candidate]
                snakes[k, n, COLUMN] = x + t.words[t.candidate + 2 * candidate + 1]
                ink[k, n] = scale[k] * contrast
            elif k < snakes.shape[0] - 1:
                continue

            position = flat(t, snakes[k, n - 1, ROW], snakes[k, n - 1, COLUMN])
            start, stop = t.words[t.mask + last], t.words[t.mask + last + 1]
            at = position + t.words[t.mask_from + last]
            for i in range(stop - start):
                to, of = np.uint64(at + i), np.uint64(t.mask_pixel + start + i)
                canvas[to] = max(canvas[to], t.bytes[of])
            start, stop = t.words[t.near + last], t.words[t.near + last + 1]
            at = t.layer + position + t.words[t.near_from + last]
            for i in range(stop - start):
                to, of = np.uint64(at + i), np.uint64(t.near_pixel + start + i)
                canvas[to] = max(canvas[to], t.bytes[of])
    return True


@compiled()
def take(t, canvas, taken):
    """Mark in `taken` what is not free and the outermost pixels; the number of pixels free.

    taken (size, words): a bit a pixel, column x at bit x % 64 of word x // 64.
    """
    size, words = taken.shape
    free = size * size
    for y in range(size):
        edge = ~np.uint64(0) if y == 0 or y == size - 1 else np.uint64(0)
        for w in range(words):
            taken[y, w] = edge
        row = flat(t, y, 0)
        for x in range(size):
            if canvas[row + x] > FREE:
                taken[y, x >> 6] |= np.uint64(1) << np.uint64(x & 63)
                free -= 1
        taken[y, 0] |= np.uint64(1)
        taken[y, (size - 1) >> 6] |= np.uint64(1) << np.uint64((size - 1) & 63)
    return free


@compiled(inline="always")
def popcount(x):
    x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled()
def draw_tail(t, state, taken, free, direction):
    """One of the tails (row x size + column) around which the footprint is free; -1 if none is.

    free is room to work, of the shape of `taken`.
    """
    if t.words[t.seed_box + 4 * direction + 1] == 0:
        return -1  # the original never finds a tail in this direction: see covers_corners
    size, words = taken.shape
    for y in range(size):
        for w in range(words):
            free[y, w] = 0
    for i in range(t.words[t.footprint + direction], t.words[t.footprint + direction + 1]):
        dy, dx = t.words[t.footprint_at + 2 * i], t.words[t.footprint_at + 2 * i + 1]
        # bit x of the result is bit x + dx of the row: shifts within a word, and across two
        right, left = np.uint64(max(dx, 0)), np.uint64(max(-dx, 0))
        across = np.uint64(64 - dx if dx > 0 else 64 + dx)
        for y in range(max(0, -dy), min(size, size - dy)):
            for w in range(words):
                bits = (taken[y + dy, w] >> right) << left
                if dx > 0 and w + 1 < words:
                    bits |= taken[y + dy, w + 1] << across
                elif dx < 0 and w > 0:
                    bits |= taken[y + dy, w - 1] >> across
                free[y, w] |= bits
    inside = ~np.uint64(0) if size >= 64 else (np.uint64(1) << np.uint64(size)) - np.uint64(1)
    count = 0
    for y in range(size):
        for w in range(words):
            free[y, w] = ~free[y, w] & inside
            count += popcount(free[y, w])
    if count == 0:
        return -1
    place = below(state, count)
    y, w = 0, 0
    while place >= popcount(free[y, w]):
        place -= popcount(free[y, w])
        w += 1
        if w == words:
            y, w = y + 1, 0
    bits = free[y, w]
    for _ in range(place):
        bits &= bits - np.uint64(1)
    return y * size + w * 64 + popcount((bits & (~bits + np.uint64(1))) - np.uint64(1))


@compiled()
def paint(t, image, snakes, ink):
    """image = max(image, the lines of the snakes' paddles), cropped at the borders."""
    size, width = image.shape[0], 2 * t.half + 1
    for k in range(snakes.shape[0]):
        for n in range(snakes.shape[1]):
            line = t.line + snakes[k, n, SPRITE] * width * width
            top, left = snakes[k, n, ROW] - t.half, snakes[k, n, COLUMN] - t.half
            for y in range(max(0, top), min(size, top + width)):
                for x in range(max(0, left), min(size, left + width)):
                    value = np.float32(t.bytes[line + (y - top) * width + x - left] / 255.0 * ink[k, n])
                    image[y, x] = max(image[y, x], value)


@compiled()
def paint_marker(t, image, y, x):
    """image = max(image, a disc at (y, x))."""
    size, width, classes = image.shape[0], 2 * t.marker_half + 1, 2 * t.marker_safe + 1
    row = y if y < t.marker_safe else max(t.marker_safe, classes - size + y)
    column = x if x < t.marker_safe else max(t.marker_safe, classes - size + x)
    disc = t.marker + (row * classes + column) * width * width
    top, left = y - t.marker_half, x - t.marker_half
    for i in range(max(0, top), min(size, top + width)):
        for j in range(max(0, left), min(size, left + width)):
            image[i, j] = max(image[i, j], t.bytes[disc + (i - top) * width + j - left] / 255.0)


@compiled()
def develop(image, pixels):
    """Stretch the image from its least to its greatest value onto 0 to 255, and clear it."""
    low = high = image[0, 0]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            low, high = min(low, image[y, x]), max(high, image[y, x])
    scale = 255.0 / (high - low)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            pixels[y * image.shape[1] + x] = np.uint8((image[y, x] - low) * scale + 0.5)
            image[y, x] = 0.0


@compiled(nogil=True)
def draw_many(tables, s, state, images, labels, tries, placed):
    """Fill images (N, size^2) uint8 and labels (N,), one image after the other from `state`.

    tables: of two margins, though there be but one, so that all resolutions share one compilation.
    tries (N,) counts the tries at the target pair, placed (N,) the distractors that found room.
    """
    size, last = s.size, s.contour_length - 1
    pair, pair_ink = np.zeros((2, last + 1, 3), np.int64), np.zeros((2, last + 1))
    short, short_ink = np.zeros((1, s.distractor_length, 3), np.int64), np.zeros((1, s.distractor_length))
    pivots, scale, plain, totals = np.zeros((2, 2)), np.zeros(2), np.ones(1), np.zeros(1024)
    taken = np.zeros((size, (size + 63) // 64), np.uint64)
    free = taken.copy()
    image = np.zeros((size, size))
    for index in range(len(labels)):
        label = below(state, 2)
        t = tables[below(state, s.margins) if s.margins > 1 else 0]
        before = t.bytes[t.empty : t.empty + 2 * t.layer].copy()
        canvas = before.copy()
        tries[index] = 0
        grown = False
        while not grown:
            tries[index] += plant_pair(t, s, state, pivots, pair, scale, pair_ink)
            grown = grow(t, s, state, canvas, before, pivots, pair, scale, s.paddle_contrasts, pair_ink, totals)
        paint(t, image, pair, pair_ink)

        placed[index] = 0
        before, canvas = canvas, before
        room = take(t, before, taken)
        for _ in range(s.num_distractors):
            for _ in range(s.distractor_tries):
                if room < 0.01 * size * size:
                    break
                short_ink[0, 0] = choose(state, s.snake_contrasts)
                if plant_distractor(t, s, state, taken, free, pivots, short) and grow(
                    t, s, state, canvas, before, pivots, short, plain, s.snake_contrasts, short_ink, totals
                ):
                    paint(t, image, short, short_ink)
                    before, canvas = canvas, before
                    room = take(t, before, taken)
                    placed[index] += 1
                    break

        a = below(state, 2)
        b = a if label == 1 else 1 - a
        paint_marker(t, image, pair[a, 0, ROW], pair[a, 0, COLUMN])
        paint_marker(t, image, pair[b, last, ROW], pair[b, last, COLUMN])
        develop(image, images[index])
        labels[index] = label


def prepare(p: Parameters) -> tuple[tuple[Tables, Tables], Settings]:
    """What `draw_many` needs besides a state and room for the images."""
    settings = Settings(
        p.resolution,
        len(p.margins),
        p.contour_length,
        p.distractor_length,
        p.num_distractors,
        p.paddle_retrials + 1,
        p.distractor_retrials + 1,
        np.array(p.snake_contrasts, float),
        np.array(p.paddle_contrasts, float),
    )
    return (build(p, p.margins[0]), build(p, p.margins[-1])), settings


class Images(NamedTuple):
    images: np.ndarray  # (N, size^2) uint8
    labels: np.ndarray  # (N,) uint8, 1: both discs on one snake
    tries: np.ndarray  # (N,) tries at the target pair
    placed: np.ndarray  # (N,) distractors

    @classmethod
    def empty(cls, count: int, resolution: int) -> Images:
        return cls(
            np.empty((count, resolution**2), np.uint8),
            np.empty(count, np.uint8),
            np.empty(count, np.int64),
            np.empty(count, np.int64),
        )


def generate(p: Parameters, count: int, *key: int) -> Images:
    """`count` images of the stream named by `key`, say (seed, shard)."""
    out = Images.empty(count, p.resolution)
    draw_many(*prepare(p), seeded(*key), *out)
    return out
