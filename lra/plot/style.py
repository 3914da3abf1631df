"""What all figures share: how a model looks, how notes are set, how a figure becomes bytes.

Colours are those of Okabe and Ito (2008), which people with any colour vision can tell apart; since
grey prints and more than seven models need more than colour, every model also has a marker, a line
style and its name beside what is drawn.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib import font_manager
from matplotlib.figure import Figure

from lra.marks.runs import REFERENCE

P = ParamSpec("P")
BLACK, GREY, PALE = "#000000", "#6f6f6f", "#d9d9d9"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "p", "d", "8")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 2)))
FAMILY = "DejaVu Sans of matplotlib"  # as `own_fonts` calls it
SMALL, NORMAL = 8.0, 9.0  # points
DPI = 150


@dataclass(frozen=True)
class Page:
    """What a figure is drawn on: paper, ink, ink for what matters less, lines of a grid."""

    paper: str
    ink: str
    soft: str
    grid: str

    def begin(self) -> None:
        """Draw on it from now on, within `drawing`."""
        face = ("figure.facecolor", "axes.facecolor")
        ink = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
        matplotlib.rcParams.update(dict.fromkeys(face, self.paper) | dict.fromkeys(ink, self.ink))
        matplotlib.rcParams.update({"grid.color": self.grid, "axes.edgecolor": self.soft})

    def look(self, look: Look) -> Look:
        """Of a model, the reference in this page's ink."""
        return replace(look, colour=self.ink) if look.colour == BLACK else look


LIGHT, DARK = Page("#ffffff", BLACK, GREY, "0.9"), Page("#0d1117", "#e6edf3", "#9aa4ae", "#2a313a")


@dataclass(frozen=True)
class Look:
    colour: str
    marker: str
    line: Any


def looks(models: Iterable[str], reference: str = REFERENCE) -> dict[str, Look]:
    """A look for each model: the reference black and solid, the others by name.

    No two of the first 30 share both colour and line style.
    """
    names = sorted(set(models) - {reference})
    out = {reference: Look(BLACK, MARKERS[0], LINES[0])}
    for i, name in enumerate(names):
        cycle = i // len(COLOURS)
        out[name] = Look(COLOURS[i % len(COLOURS)], MARKERS[(i + 1) % len(MARKERS)], LINES[cycle % len(LINES)])
    return out


@functools.cache
def own_fonts() -> None:
    """Know the font that comes with matplotlib by a name of its own: a machine may have another release of it, whose
    glyphs have other numbers, and figures would differ by the machine."""
    manager = font_manager.fontManager
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuSans*.ttf")):
        entry = font_manager.ttfFontProperty(font_manager.get_font(path))
        if entry.name == "DejaVu Sans":
            manager.ttflist.append(replace(entry, name=FAMILY))


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's settings are; restored afterwards."""
    own_fonts()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        sns.set_theme(style="whitegrid", palette=list(COLOURS))
        matplotlib.rcParams.update(
            {
                "font.family": "sans-serif",
                "font.sans-serif": [FAMILY],
                "font.size": NORMAL,
                "text.parse_math": False,  # a name with a dollar is a name
                "axes.titlesize": NORMAL + 1,
                "axes.labelsize": NORMAL,
                "axes.edgecolor": "0.6",
                "axes.linewidth": 0.8,
                "axes.titley": 1.0,  # where it would be anyway; to look for it takes a third of the drawing
                "grid.color": "0.9",
                "grid.linewidth": 0.8,
                "xtick.labelsize": SMALL,
                "ytick.labelsize": SMALL,
                "legend.fontsize": SMALL,
                "legend.title_fontsize": SMALL,
                "svg.hashsalt": "lra",
                "svg.fonttype": "path",
            }
        )
        yield


def drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A function that draws a figure does so in `drawing`."""

    @functools.wraps(draw)
    def inside(*args: P.args, **named: P.kwargs) -> Figure:
        with drawing():
            return draw(*args, **named)

    return inside


def sheet(
    count: int,
    columns: int,
    panel: tuple[float, float],
    room: tuple[float, float, float],
    title: str,
    notes: Iterable[str],
) -> tuple[Figure, list[Any]]:
    """A figure with a title above, `count` panels of one size, and notes below: what is missing, what marks mean.

    panel   width and height inside the axes, inches
    room    left, right and below a panel: for tick labels, names beside curves, legends
    The figure takes the size that this needs. Sizes in inches rather than a layout engine: nothing
    moves when a label changes, and the engines take as long as the drawing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    (width, height), (left, right, below) = panel, room
    columns, above = min(columns, max(1, count)), 0.32
    lines = -(-max(1, count) // columns)
    whole = columns * (left + width + right)
    heads = textwrap.wrap(title, int((whole - 0.2) / text_width(" ", NORMAL + 2)))
    feet = [line for note in notes for line in textwrap.wrap(note, int((whole - 0.2) / text_width(" ", SMALL)))]
    head, foot = 0.1 + 0.19 * len(heads), 0.08 + 0.155 * len(feet)
    high = head + lines * (above + height + below) + foot
    figure = Figure(figsize=(round(whole, 3), round(high, 3)), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.1 / whole, 1 - 0.07 / high, "\n".join(heads), fontsize=NORMAL + 2, va="top")
    ink = "0.25" if matplotlib.rcParams["figure.facecolor"] in ("white", LIGHT.paper) else DARK.soft
    figure.text(0.1 / whole, 0.08 / high, "\n".join(feet), fontsize=SMALL, color=ink, va="bottom", linespacing=1.3)
    panels = []
    for i in range(count):
        x = (i % columns) * (left + width + right) + left
        y = high - head - (i // columns + 1) * (above + height + below) + below
        panels.append(figure.add_axes((x / whole, y / high, width / whole, height / high)))
    return figure, panels


def text_width(text: str, size: float) -> float:
    """Inches that a line of text of that size, in points, takes at most, about."""
    return len(text) * 0.58 * size / 72


def widen(axes: Any, left: float, right: float) -> None:
    """Move the sides of a panel outwards by that many inches."""
    box, whole = axes.get_position(), axes.figure.get_figwidth()
    axes.set_position((box.x0 - left / whole, box.y0, box.width + (left + right) / whole, box.height))


def image(figure: Figure, kind: str, command: str = "") -> bytes:
    """The file of a figure, "png" or "svg": the same bytes for the same figure, without dates or names.

    command: what a figure of a choice carries, so that it can be made again.

    A PNG has a palette of 256 colours, which nobody sees and makes it a third of the size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    buffer = io.BytesIO()
    with drawing():
        figure.set_dpi(DPI)
        if kind == "svg":
            about = {"Date": None, "Creator": None} | ({"Description": command} if command else {})
            FigureCanvasSVG(figure).print_svg(buffer, metadata=about)
            figure.set_dpi(DPI)  # which print_svg has set to 72
        else:
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            few = pixels.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            palette = np.array(few.getpalette()).reshape(-1, 3)
            palette[palette.min(axis=1) > 252] = 255  # an octree makes white 254
            few.putpalette(palette.ravel().tolist())
            about = PngInfo()
            if command:
                about.add_itxt("Description", command)
            few.save(buffer, "png", compress_level=6, dpi=(DPI, DPI), pnginfo=about)
    return buffer.getvalue()


def listed(names: Iterable[str], most: int = 6) -> str:
    """a, b and 3 more."""
    names = list(names)
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def said(status: str) -> str:
    """A record's status as people read it."""
    return {"oom": "out of memory"}.get(status, status)


def short(length: float) -> str:
    """2048 -> 2K."""
    return f"{length / 1024:g}K" if length >= 1024 else f"{length:g}"


def empty(axes: Any) -> None:
    """Say that there is nothing to draw, rather than show bare axes."""
    axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center", color="0.4")
    axes.set_xticks([])
    axes.set_yticks([])
