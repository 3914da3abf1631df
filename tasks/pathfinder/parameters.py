"""The parameters of the Pathfinder images, as in the paper's data, and of smaller ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Parameters:
    """What the distribution of images depends on; lengths in pixels, names as in the original.

    Where a tuple has several entries, one is drawn: of margins for each image, of snake_contrasts
    for each snake (each paddle of a distractor), of paddle_contrasts for each paddle of the targets.
    """

    resolution: int
    contour_length: int  # paddles in each of the two target snakes
    distractor_length: int
    num_distractors: int
    padding: int
    paddle_length: int
    paddle_thickness: float
    margins: tuple[int, ...]
    marker_radius: float
    seed_distance: int
    continuity: float
    snake_contrasts: tuple[float, ...]
    paddle_contrasts: tuple[float, ...]
    antialias: int = 2
    paddle_retrials: int = 2
    distractor_retrials: int = 4


# From the docstrings of the official data/pathfinder.py, and the defaults of the generator of 2019
# where they are silent (spec 3.1). First the number of paddles in all distractors, which the
# docstrings divide by a distractor's length; whether the official easy and intermediate folders
# were made with that number is not known.
_FIELDS = (
    "padding",
    "paddle_length",
    "paddle_thickness",
    "margins",
    "marker_radius",
    "seed_distance",
    "continuity",
    "snake_contrasts",
    "paddle_contrasts",
)
# The row of 16 pixels is ours, for what can be learnt in minutes: the dashes of 32 pixels, a smaller disc, and
# no distractors: with two of them three models of four were still at chance after 20,000 images.
_BY_RESOLUTION = {
    16: (0, 1, 2, 0.5, (1,), 1.0, 3, 1.0, (2.0,), (0.75,)),
    32: (20, 1, 2, 0.5, (1,), 1.5, 7, 1.0, (2.0,), (0.75,)),
    64: (22, 1, 5, 1.0, (1,), 2.5, 12, 1.8, (0.8,), (1.0,)),
    128: (35, 1, 5, 1.5, (2, 3), 3.0, 20, 1.8, (0.9,), (1.0,)),
    256: (30, 22, 5, 2.0, (3,), 5.0, 27, 1.8, (1.0,), (1.0,)),
}
RESOLUTIONS = tuple(_BY_RESOLUTION)
SHORT_CONTOURS = {16: (2, 3, 4)}  # longer ones hardly fit: a pair is drawn until it does


def parameters(resolution: int, contour_length: int, **changes: Any) -> Parameters:
    """The official parameters (ours at 16 pixels), with `changes` to any of them."""
    paddles, *values = _BY_RESOLUTION[resolution]
    short = max(contour_length // 3, 1)
    official = Parameters(
        resolution, contour_length, short, paddles // short, **dict(zip(_FIELDS, values, strict=True))
    )
    return replace(official, **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()})
