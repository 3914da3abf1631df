"""The finite tables that Pathfinder's generator draws from.

A paddle is drawn in one of finitely many directions, from a whole pixel, so all it can ever put on
an image is a finite set of small pictures ("sprites"), drawn once here by Pillow, as in the original
(Linsley et al. 2018; github.com/drewlinsley/pathfinder of 2019), and looked up ever after.

Coordinates are (row y, column x); an angle t points to (sin t, cos t).

Directions are numbered: 0 to 359 are the whole degrees -180 to 179, in which first paddles lie;
360 + k is the direction to candidate k, the k-th whole pixel on the circle around a pivot on which
the next paddle's head may lie. Sprite d < 360 is drawn from the tail of a first paddle in direction
d; sprite 360 + k from the head at candidate k back to the pivot.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import astuple
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lra.tasks.pathfinder.parameters import Parameters

SOLID = 255
FREE = 76  # an occupancy of at most 0.3, in 1/255
OVERLAP = 459  # occupancies of 1.8 in all collide; no sum of two rounds to the other side of it
DEGREES = 360


class Tables(NamedTuple):
    """All that the generator looks up for one margin M, in three flat arrays and the places where
    each table begins in them. (Of an array of its own for each table, numba would count the
    references at every call, which took longer than the work.) D directions, K candidates.

    A ragged table has D + 1 bounds in `words`: entries bounds[d] to bounds[d + 1] belong to d.
    Offsets are distances in flat index on a canvas of two layers: what is occupied, and the same
    dilated. Rows are `stride` apart; `frame` solid pixels surround the image, of which those beside
    it serve the row's end and the next row's beginning.
    """

    words: np.ndarray  # int32
    reals: np.ndarray  # float64
    bytes: np.ndarray  # uint8
    candidate: int  # words (K, 2): row and column from the pivot
    step: int  # reals (D, 2): from a pivot to the next
    turn: int  # words (D + 1,): candidates with a weight above 0, by the last paddle's direction
    turn_candidate: int  # words
    turn_offset: int  # words, from the pivot
    turn_weight: int  # reals
    first: int  # reals (360, 6): tail to head, head to pivot, first tail to second tail
    seed_box: int  # words (360, 4): rows from, to, columns from, to, open to the first of all tails
    footprint: int  # words (360 + 1,): what must be free around the tail of a first paddle
    footprint_at: int  # words (n, 2): row and column
    mask: int  # words (D + 1,): the masks, each as one stretch of the flat canvas
    mask_from: int  # words (D,): where its first pixel lies, from the centre
    mask_pixel: int  # bytes
    near: int  # the same of the masks dilated by disk(M)
    near_from: int
    near_pixel: int
    line: int  # bytes (D, 2h+1, 2h+1)
    empty: int  # bytes (2, layer): occupancy to begin with, and the same dilated
    marker: int  # bytes (C, C, 2m+1, 2m+1): see `markers`
    whiteness: int  # reals (256,): 1 - occupancy, in single precision as there
    half: int  # h
    marker_half: int  # m
    marker_safe: int  # C = 2 x marker_safe + 1
    radius: int  # L + M, from a pivot to its candidates
    frame: int
    stride: int
    layer: int  # pixels in a layer


class _Packer:
    """Collects tables into flat arrays; `words`, `reals` and `bytes` return where one begins."""

    def __init__(self) -> None:
        self.parts: dict[Any, list[np.ndarray]] = {np.int32: [], np.float64: [], np.uint8: []}

    def add(self, values: Any, dtype: Any) -> int:
        start = sum(len(p) for p in self.parts[dtype])
        self.parts[dtype].append(np.ravel(np.asarray(values, dtype)))
        return start

    def words(self, values: Any) -> int:
        return self.add(values, np.int32)

    def reals(self, values: Any) -> int:
        return self.add(values, np.float64)

    def bytes(self, values: Any) -> int:
        return self.add(values, np.uint8)

    def bounds(self, rows: list[Any]) -> int:
        return self.words(np.cumsum([0, *(len(row) for row in rows)]))

    def arrays(self) -> list[np.ndarray]:
        return [np.concatenate(parts) for parts in self.parts.values()]


def disk(radius: float) -> list[tuple[int, int]]:
    """Offsets (y, x) at most `radius` away."""
    reach = range(-int(radius), int(radius) + 1)
    return [(y, x) for y in reach for x in reach if y * y + x * x <= radius * radius]


def dilate(images: np.ndarray, offsets: Iterable[tuple[int, int]]) -> np.ndarray:
    """out[..., p] = max of images[..., p + o] over the offsets o for which p + o is inside."""
    height, width = images.shape[-2:]
    out = np.zeros_like(images)
    for y, x in offsets:
        to = (..., slice(max(0, -y), height - max(0, y)), slice(max(0, -x), width - max(0, x)))
        of = (..., slice(max(0, y), height - max(0, -y)), slice(max(0, x), width - max(0, -x)))
        out[to] = np.maximum(out[to], images[of])
    return out


def step(start: tuple[int, int], angle: float, distance: float) -> tuple[int, int]:
    """The original's move: rounded up, always."""
    return math.ceil(start[0] + distance * math.sin(angle)), math.ceil(start[1] + distance * math.cos(angle))


def flip(angle: float) -> float:
    """The opposite direction, in [-pi, pi)."""
    return angle + math.pi if angle < 0 else angle - math.pi


def lanczos(image: np.ndarray, width: int) -> np.ndarray:
    """Resize uint8 to (width, width), in 8 bits as Pillow does."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, width), Image.Resampling.LANCZOS))


def paddle(p: Parameters, margin: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Line and soft mask of a paddle that starts at the centre: two (2h+1, 2h+1) uint8 images."""
    from PIL import Image, ImageDraw

    half = sprite_half(p, margin)
    centre = half * p.antialias
    canvas = Image.new("L", (2 * centre + 1, 2 * centre + 1), 0)
    y, x = step((centre, centre), angle, p.paddle_length * p.antialias)
    ImageDraw.Draw(canvas).line([(centre, centre), (x, y)], fill=SOLID, width=round(p.paddle_thickness * p.antialias))
    thick = dilate(np.asarray(canvas), disk(margin * p.antialias))
    return lanczos(np.asarray(canvas), 2 * half + 1), lanczos(thick, 2 * half + 1)


def sprite_half(p: Parameters, margin: int) -> int:
    return p.paddle_length + math.ceil(p.paddle_thickness) + margin


def circle(radius: int) -> list[tuple[int, int]]:
    """Whole pixels (y, x) on a circle: sampled once a pixel of arc, rounded down, sorted."""
    angles = np.arange(0, 360, 360.0 / (2 * radius * math.pi)) * math.pi / 180
    points = {(math.floor(radius * math.sin(a)), math.floor(radius * math.cos(a))) for a in angles.tolist()}
    return sorted(points)


def marker_classes(p: Parameters) -> tuple[int, int]:
    """(m, s): half the width of a marker's picture, and the distance from a border from which on
    its picture no longer changes. Lanczos reaches 3 output pixels."""
    half = math.ceil(p.marker_radius) + 3
    return half, half + 3


def markers(p: Parameters) -> np.ndarray:
    """(C, C, 2m+1, 2m+1) uint8, C = 2s + 1: class c < s is a centre c pixels from the first
    border, c > s one 2s - c from the last, c = s one far from both."""
    half, safe = marker_classes(p)
    width, scale = 2 * safe + 1, p.antialias
    grid = np.arange(width * scale)
    out = np.zeros((width, width, 2 * half + 1, 2 * half + 1), np.uint8)
    for cy in range(width):
        for cx in range(width):
            distance = (grid[:, None] - cy * scale) ** 2 + (grid[None, :] - cx * scale) ** 2
            disc = np.where(distance <= (p.marker_radius * scale) ** 2, SOLID, 0).astype(np.uint8)
            picture = np.pad(lanczos(disc, width), half)
            out[cy, cx] = picture[cy : cy + 2 * half + 1, cx : cx + 2 * half + 1]
    return out


def covers_corners(offsets: list[tuple[int, int]]) -> bool:
    """Whether p + o is inside the image for some o, for every pixel p.

    Where it is not, OpenCV's dilation gives the original -1.8e308, which it takes for a broken mask
    and finds no tail free. Because of the kernel's shift that is the fate of most directions (90 %
    of them at 32 px): first paddles point up and to the left.
    """
    return all(any(sy * y >= 0 and sx * x >= 0 for y, x in offsets) for sy in (-1, 1) for sx in (-1, 1))


def chain(rows: Iterable[Iterable[Any]]) -> list[Any]:
    return [entry for row in rows for entry in row]


def occupancy() -> np.ndarray:
    """(256,) of an 8-bit value, in single precision as in the original."""
    return (np.arange(256) / 255).astype(np.float32).astype(float)


def stretch(image: np.ndarray, stride: int) -> tuple[int, list[int]]:
    """An image as one stretch of a flat canvas: offset of the first pixel above 0 from the centre,
    and the pixels from it to the last, with those of the canvas in between as 0."""
    half = len(image) // 2
    flat = np.pad(image, ((0, 0), (0, stride - len(image)))).ravel()
    used = np.flatnonzero(flat)
    return int(used[0]) - half * (stride + 1), flat[used[0] : used[-1] + 1].tolist()


def weight(p: Parameters, angle: float, last: float) -> float:
    """Of turning from direction `last` to `angle`, before what is occupied counts."""
    delta = abs(angle - last)
    delta = p.continuity * min(delta, 2 * math.pi - delta)
    return math.cos(delta) ** 2 if delta < math.pi / 2 else 0.0


def footprint(mask: np.ndarray, reach: int) -> list[tuple[int, int]]:
    """Offsets (y, x) that the original looks at to see whether a first paddle may begin somewhere:
    the binarised mask, used as a kernel one pixel off its anchor and cut at `reach`."""
    half = len(mask) // 2
    shifted = [(y - half + 1, x - half + 1) for y, x in np.argwhere(mask == SOLID).tolist()]
    return [(y, x) for y, x in shifted if abs(y) <= reach and abs(x) <= reach]


def seed_box(p: Parameters, offsets: list[tuple[int, int]]) -> tuple[int, int, int, int]:
    """Rows from, to and columns from, to where all of a footprint lies in the central square, in
    which the first paddle of all begins; empty where the original never begins."""
    if not covers_corners(offsets):
        return 0, 0, 0, 0
    (y0, x0), (y1, x1) = np.min(offsets, axis=0), np.max(offsets, axis=0)
    low, high = 2 * p.seed_distance, p.resolution - 2 * p.seed_distance
    return low - y0, high - y1, low - x0, high - x1


def moves(angles: list[float], distance: float) -> np.ndarray:
    """(N, 2): how far down and to the right each angle leads."""
    return np.array([(distance * math.sin(a), distance * math.cos(a)) for a in angles])


def first_moves(p: Parameters, radius: int) -> np.ndarray:
    """(2 DEGREES, 6): from where a first paddle may start, in each direction."""
    degrees = [d * math.pi / 180 for d in range(-180, 180)]
    back = [a + math.pi if a + math.pi < math.pi else a - math.pi for a in degrees]
    around = [d * math.pi / 180 for d in range(DEGREES)]
    return np.hstack([moves(degrees, p.paddle_length), moves(back, radius), moves(around, p.seed_distance)])


def nothing_drawn(p: Parameters, frame: int, stride: int) -> np.ndarray:
    """An image in its frame. Outside is as solid as the padding: a paddle that reaches out has hit the padding
    on its way, and no candidate is accepted there."""
    empty = np.full((p.resolution + 2 * frame + 1, stride), SOLID, np.uint8)
    low, high = frame + p.padding, frame + p.resolution - p.padding
    empty[low:high, low:high] = 0
    return empty


@lru_cache(maxsize=4)
def build(p: Parameters, margin: int) -> Tables:
    """The tables for one margin."""
    if round(p.paddle_thickness * p.antialias) != p.paddle_thickness * p.antialias:
        raise ValueError(f"paddle_thickness {p.paddle_thickness} is not a whole number of subpixels")
    length = p.paddle_length
    radius, half = length + margin, sprite_half(p, margin)
    frame = max(half + margin, 2 * radius) + 1
    stride = p.resolution + frame

    candidates = circle(radius)
    degrees = [d * math.pi / 180 for d in range(-180, 180)]
    towards = [math.atan2(y, x) for y, x in candidates]
    directions = degrees + towards
    drawn = [paddle(p, margin, a) for a in [*degrees, *map(flip, towards)]]
    lines, masks = (np.stack(images) for images in zip(*drawn, strict=True))

    turns = [[(k, w) for k, a in enumerate(towards) if (w := weight(p, a, last)) > 0] for last in directions]
    footprints = [footprint(mask, radius) for mask in masks[:DEGREES]]
    wide = np.pad(masks, ((0, 0), (margin, margin), (margin, margin)))
    mask = [stretch(image, stride) for image in masks]
    near = [stretch(image, stride) for image in dilate(wide, disk(margin))]

    empty, first = nothing_drawn(p, frame, stride), first_moves(p, radius)
    marker_half, marker_safe = marker_classes(p)

    pack = _Packer()
    starts = {
        "candidate": pack.words(candidates),
        "step": pack.reals(moves(directions, length + 2 * margin)),
        "turn": pack.bounds(turns),
        "turn_candidate": pack.words([k for k, _ in chain(turns)]),
        "turn_offset": pack.words([candidates[k][0] * stride + candidates[k][1] for k, _ in chain(turns)]),
        "turn_weight": pack.reals([w for _, w in chain(turns)]),
        "first": pack.reals(first),
        "seed_box": pack.words([seed_box(p, offsets) for offsets in footprints]),
        "footprint": pack.bounds(footprints),
        "footprint_at": pack.words(chain(footprints)),
        "mask": pack.bounds([pixels for _, pixels in mask]),
        "mask_from": pack.words([start for start, _ in mask]),
        "mask_pixel": pack.bytes(chain(pixels for _, pixels in mask)),
        "near": pack.bounds([pixels for _, pixels in near]),
        "near_from": pack.words([start for start, _ in near]),
        "near_pixel": pack.bytes(chain(pixels for _, pixels in near)),
        "line": pack.bytes(lines),
        "empty": pack.bytes([empty, dilate(empty, disk(margin))]),
        "marker": pack.bytes(markers(p)),
        "whiteness": pack.reals(1 - occupancy()),
    }
    return Tables(
        *pack.arrays(),
        **starts,
        half=half,
        marker_half=marker_half,
        marker_safe=marker_safe,
        radius=radius,
        frame=frame,
        stride=stride,
        layer=empty.size,
    )


def fingerprint(p: Parameters) -> str:
    """Digest of parameters and tables: another Pillow that draws otherwise shows here."""
    whole = hashlib.sha256(repr(astuple(p)).encode())
    for margin in p.margins:
        for part in build(p, margin):
            whole.update(np.ascontiguousarray(part).tobytes())
    return whole.hexdigest()[:16]
