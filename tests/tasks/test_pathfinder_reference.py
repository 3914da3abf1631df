"""The compiled Pathfinder generator against a slow and literal one, handed the same draws.

The reference paints every paddle on a full-size image, dilates full-size masks and uses no table,
as the published algorithm does; the two must agree in every pixel, label and count.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lra.tasks.pathfinder.generator import generate
from lra.tasks.pathfinder.parameters import Parameters, parameters
from lra.tasks.stream import seeded

# What is compiled for it is so once.
pytestmark = pytest.mark.xdist_group("pathfinder")

M64 = 2**64 - 1


class Draws:
    """splitmix64 in whole numbers."""

    def __init__(self, *key: int) -> None:
        self.state = int(seeded(*key)[0])

    def bits(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & M64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
        return z ^ (z >> 31)

    def uniform(self) -> float:
        return (self.bits() >> 11) / 2**53

    def below(self, n: int) -> int:
        return ((self.bits() >> 32) * n) >> 32

    def one_of(self, values: tuple) -> object:
        return values[self.below(len(values))] if len(values) > 1 else values[0]


def step(start, angle, distance):
    return math.ceil(start[0] + distance * math.sin(angle)), math.ceil(start[1] + distance * math.cos(angle))


def flip(angle):
    return angle + math.pi if angle < 0 else angle - math.pi


def disk(radius):
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (y * y + x * x <= radius * radius).astype(np.uint8)


def dilate(image, kernel):
    """OpenCV's: the greatest value under the kernel's non-zero entries, -1.8e308 where they all
    lie outside the image."""
    h = len(kernel) // 2
    padded = np.pad(image, h, constant_values=-np.finfo(float).max)
    height, width = image.shape
    return np.max([padded[y : y + height, x : x + width] for y, x in np.argwhere(kernel)], axis=0)


def lanczos(image, width):
    return np.asarray(Image.fromarray(image).resize((width, width), Image.Resampling.LANCZOS))


def stretch(image):
    low, high = image.min(), image.max()
    return ((image - low) * (255.0 / (high - low)) + 0.5).astype(np.uint8)


def draw(shape, start, angle, p: Parameters, margin, contrast=1.0):
    """(line, mask): full-size images with one paddle."""
    half, scale = p.paddle_length + math.ceil(p.paddle_thickness) + margin, p.antialias
    centre = half * scale
    canvas = Image.new("F", (2 * centre + 1, 2 * centre + 1), 0.0)
    y, x = step((centre, centre), angle, p.paddle_length * scale)
    width = round(p.paddle_thickness * scale)
    ImageDraw.Draw(canvas).line([(centre, centre), (x, y)], fill=255.0, width=width)
    line = lanczos(stretch(np.array(canvas)), 2 * half + 1) / 255 * contrast
    thick = dilate(np.array(canvas, float), disk(margin * scale)).astype(np.uint8)
    mask = lanczos(thick, 2 * half + 1) / 255
    out = np.zeros((2, *shape), np.float32)
    for i in range(2 * half + 1):
        for j in range(2 * half + 1):
            y, x = start[0] - half + i, start[1] - half + j
            if 0 <= y < shape[0] and 0 <= x < shape[1]:
                out[0, y, x], out[1, y, x] = line[i, j], mask[i, j]
    return out[0], out[1]


def inside(points, size):
    return all(0 <= y < size and 0 <= x < size for y, x in points)


def free_tails(mask, angle, p, margin, frame):
    """Where a first paddle in this direction may start: (n, 2), row by row."""
    reach = p.paddle_length + margin
    _, print_ = draw((2 * reach + 1,) * 2, (reach + 1, reach + 1), angle, p, margin)
    framed = mask.copy()
    framed[:frame] = framed[len(mask) - frame :] = framed[:, :frame] = framed[:, len(mask) - frame :] = 1
    ceiling = np.ceil(dilate(framed, print_.astype(np.uint8)) - 0.3)
    if ceiling.min() < 0:
        return []
    return np.argwhere(ceiling == 0).tolist()


def first_paddle(draws, mask, p, margin, frame):
    for _ in range(p.paddle_retrials + 1):
        angle = (draws.below(360) - 180) * math.pi / 180
        back = angle + math.pi if angle + math.pi < math.pi else angle - math.pi
        tails = free_tails(mask, angle, p, margin, frame)
        if not tails:
            return None
        tail = tails[draws.below(len(tails))]
        head = step(tail, angle, p.paddle_length)
        pivot = step(head, back, p.paddle_length + margin)
        if inside((head, pivot), len(mask)):
            return tail, pivot, angle
    return None


class Snake:
    def __init__(self, mask, tail, pivot, angle, p, margin, contrast):
        self.image, self.pending = draw(mask.shape, tail, angle, p, margin, contrast)
        self.origin, self.tip, self.pivot, self.angle = tail, tail, pivot, angle

    def extend(self, draws, mask, p, margin, contrast):
        """The new mask, or None if there is no room."""
        size, radius = len(mask), p.paddle_length + margin
        pivot = step(self.pivot, self.angle, p.paddle_length + 2 * margin)
        near = dilate(mask, disk(margin))
        points = set()
        for angle in np.arange(0, 360, 360.0 / (2 * radius * np.pi)) * np.pi / 180:
            y, x = pivot[0] + radius * math.sin(angle), pivot[1] + radius * math.cos(angle)
            if 0 <= y < size and 0 <= x < size:
                points.add((int(y), int(x)))
        points = sorted(points)
        weights, angles = [], []
        for y, x in points:
            angles.append(math.atan2(y - pivot[0], x - pivot[1]))
            delta = abs(angles[-1] - self.angle)
            delta = min(p.continuity * min(delta, 2 * math.pi - delta), math.pi / 2)
            weights.append(math.cos(delta) ** 2 * (1 - near[y, x]))
        if sum(weights) < 1e-4:
            return None
        cumulated = np.cumsum(weights) / sum(weights)
        for _ in range(p.paddle_retrials + 1):
            k = int(np.argmax(cumulated > draws.uniform()))
            line, new = draw(mask.shape, points[k], flip(angles[k]), p, margin, contrast)
            if (mask + new).max() < 1.8:
                break
        else:
            return None
        mask = np.maximum(mask, self.pending)
        self.image, self.pending = np.maximum(self.image, line), new
        self.pivot, self.angle, self.tip = pivot, angles[k], points[k]
        return mask


def target_pair(draws, p, margin):
    size = p.resolution
    mask = np.ones((size, size))
    mask[p.padding : size - p.padding, p.padding : size - p.padding] = 0
    contrasts = [p.snake_contrasts[0]] * 2
    if (count := len(p.snake_contrasts)) > 1:
        i, j = draws.below(2 * count), draws.below(2 * count - 1)
        j += j >= i
        contrasts = [p.snake_contrasts[i % count], p.snake_contrasts[j % count]]

    contrast = draws.one_of(p.paddle_contrasts)
    planted = first_paddle(draws, mask, p, margin, 2 * p.seed_distance)
    if planted is None:
        return None
    one = Snake(mask, *planted, p, margin, contrast * contrasts[0])

    contrast = draws.one_of(p.paddle_contrasts)
    for _ in range(p.paddle_retrials + 1):
        angle, around = (draws.below(360) - 180) * math.pi / 180, draws.below(360) * math.pi / 180
        back = angle + math.pi if angle + math.pi < math.pi else angle - math.pi
        tail = (
            int(np.round(one.origin[0] + p.seed_distance * math.sin(around))),
            int(np.round(one.origin[1] + p.seed_distance * math.cos(around))),
        )
        head = step(tail, angle, p.paddle_length)
        pivot = step(head, back, p.paddle_length + margin)
        if inside((head, pivot), size):
            break
    else:
        return None
    two = Snake(mask, tail, pivot, angle, p, margin, contrast * contrasts[1])

    for _ in range(p.contour_length - 1):
        contrast = draws.one_of(p.paddle_contrasts)
        for snake, own in ((one, contrasts[0]), (two, contrasts[1])):
            mask = snake.extend(draws, mask, p, margin, contrast * own)
            if mask is None:
                return None
    return one, two, np.maximum(mask, two.pending)


def distractor(draws, mask, p, margin):
    contrast = draws.one_of(p.snake_contrasts)
    planted = first_paddle(draws, mask, p, margin, 1)
    if planted is None:
        return None
    snake = Snake(mask, *planted, p, margin, contrast)
    for _ in range(p.distractor_length - 1):
        mask = snake.extend(draws, mask, p, margin, draws.one_of(p.snake_contrasts))
        if mask is None:
            return None
    return snake.image, np.maximum(mask, snake.pending)


def marker(p, at):
    """A disc, drawn over the whole window at the finer scale."""
    size, scale = p.resolution, p.antialias
    y, x = np.ogrid[-at[0] * scale : (size - at[0]) * scale, -at[1] * scale : (size - at[1]) * scale]
    disc = (x**2 + y**2 <= (p.marker_radius * scale) ** 2).astype(float)
    return lanczos(stretch(disc), size) / 255


def reference(p: Parameters, draws: Draws):
    """(pixels, label, tries, distractors placed) of one image."""
    label = draws.below(2)
    margin = draws.one_of(p.margins)
    pair, tries = None, 0
    while pair is None:
        pair, tries = target_pair(draws, p, margin), tries + 1
    one, two, mask = pair
    image, placed = np.maximum(one.image, two.image).astype(float), 0
    for _ in range(p.num_distractors):
        for _ in range(p.distractor_retrials + 1):
            if (np.ceil(mask - 0.3) <= 0).mean() < 0.01:
                break
            new = distractor(draws, mask, p, margin)
            if new is not None:
                image, mask, placed = np.maximum(image, new[0]), new[1], placed + 1
                break
    first = draws.below(2)
    second = first if label else 1 - first
    for at in ((one, two)[first].origin, (one, two)[second].tip):
        image = np.maximum(image, marker(p, at))
    return stretch(image), label, tries, placed


def compare(p: Parameters, count: int, key: int) -> None:
    fast, draws = generate(p, count, key), Draws(key)
    for i in range(count):
        pixels, label, tries, placed = reference(p, draws)
        assert (fast.labels[i], fast.tries[i], fast.placed[i]) == (label, tries, placed)
        np.testing.assert_array_equal(fast.images[i].reshape(pixels.shape), pixels)


CHOICES = {"snake_contrasts": (2.0, 1.2), "paddle_contrasts": (0.75, 0.5, 1.0), "margins": (1, 2)}


@pytest.mark.parametrize(
    ("p", "count"),
    [
        pytest.param(parameters(32, 6), 1, marks=pytest.mark.slow),
        (parameters(32, 6, **CHOICES), 1),
        pytest.param(parameters(64, 6), 1, marks=pytest.mark.slow),
        pytest.param(parameters(128, 6), 1, marks=pytest.mark.slow),
        pytest.param(parameters(16, 2), 3, marks=pytest.mark.slow),
        (parameters(16, 4), 3),
    ],
    ids=["32", "32-choices", "64", "128", "16-2", "16-4"],
)
def test_equals_reference(p, count):
    compare(p, count, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "count"),
    [
        (parameters(32, 14), 12),
        (parameters(32, 9), 12),
        (parameters(32, 6), 40),
        (parameters(32, 6, **CHOICES), 12),
        (parameters(64, 6), 8),
        (parameters(128, 9), 4),
        (parameters(256, 14), 3),
        (parameters(16, 3), 100),
    ],
    ids=["32-14", "32-9", "32-6", "32-choices", "64-6", "128-9", "256-14", "16-3"],
)
def test_equals_reference_at_length(p, count):
    compare(p, count, 4)
