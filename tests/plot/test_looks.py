"""Where labels go, and how models look: no two labels meet, no two models need colour to be told apart."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lra.plot import labels, style
from tests.help import synthetic


def test_labels_beside_discs_do_not_meet() -> None:
    draw = np.random.default_rng(0)
    frame = (0.0, 0.0, 700.0, 500.0)
    for n in (1, 2, 7, 13, 20):
        discs = np.column_stack([draw.uniform(60, 640, n), draw.uniform(50, 450, n), draw.uniform(5, 40, n)])
        sizes = np.column_stack([draw.uniform(40, 110, n), np.full(n, 15.0)])
        places = labels.beside(discs, sizes, frame)
        low, high = places - sizes / 2, places + sizes / 2
        assert (low >= 0).all() and (high <= (700, 500)).all()
        for i, j in itertools.combinations(range(n), 2):
            assert not ((low[i] < high[j]) & (low[j] < high[i])).all(), f"labels {i} and {j} of {n} meet"
        assert np.array_equal(places, labels.beside(discs, sizes, frame))


def test_a_lone_label_touches_its_disc() -> None:
    (place,) = labels.beside(np.array([[100.0, 100, 20]]), np.array([[60.0, 14]]), (0, 0, 200, 200))
    assert np.hypot(*(place - 100)) <= 20 + labels.CLEAR + 30 + 1e-3


def test_spread_is_the_least_squares_one() -> None:
    """Against isotonic regression of scikit-learn, of which it is a shifted form."""
    from sklearn.isotonic import IsotonicRegression

    draw = np.random.default_rng(0)
    for n in (1, 2, 5, 13):
        wanted = draw.uniform(0, 60, n).round()  # with ties
        got = labels.spread(wanted, 10.0, -1e9, 1e9)
        order = np.argsort(wanted, kind="stable")
        shifted = wanted[order] - 10.0 * np.arange(n)
        expected = IsotonicRegression().fit_transform(np.arange(n), shifted) + 10.0 * np.arange(n)
        np.testing.assert_allclose(got[order], expected)
    tight = labels.spread([5.0] * 11, 10.0, 0.0, 50.0)
    np.testing.assert_allclose(tight, np.arange(11) * 5.0)
    assert labels.spread([], 10.0, 0.0, 50.0).size == 0


DEUTERANOPIA = np.array(  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def test_colours_differ_without_red_and_green() -> None:
    linear = np.array([to_rgb(c) for c in (style.BLACK, style.GREY, *style.COLOURS)]) ** 2.2
    seen = (linear @ DEUTERANOPIA.T).clip(0, 1) ** (1 / 2.2)
    for a, b in itertools.combinations(range(len(seen)), 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 0.12, f"colours {a} and {b} look alike"


def test_looks_need_no_colour() -> None:
    """In grey, marker and line style together still tell models apart; names do in any case."""
    looks = style.looks(synthetic.MODELS)
    assert looks["transformer"].colour == style.BLACK
    assert len({look.marker for look in looks.values()}) == len(looks) == 13
    many = style.looks(f"m{i}" for i in range(30))
    assert len({(look.colour, str(look.line)) for look in many.values()}) == 31
    assert style.GREY not in {look.colour for look in many.values()}, "grey is for what others published"


def test_a_curve_that_ends_early_is_joined_to_its_name_by_a_broken_line() -> None:
    """A solid one from the middle of the panel would look like a part of the curve."""
    axes = Figure().add_subplot()
    axes.plot([0, 10], [0, 1])
    labels.at_ends(axes, [(10.0, 0.2, "whole", "red"), (4.0, 0.8, "early", "blue")], 7)
    (leaders,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    (_, whole), (_, early) = leaders.get_linestyle()
    assert whole is None and early is not None
    heights = {text.get_text(): text.get_position() for text in axes.texts}
    assert all(x > 1 for x, _ in heights.values()), "to the right of the panel"
    assert 0 <= heights["whole"][1] < heights["early"][1] <= 1


def test_glyphs_are_those_of_matplotlibs_own_font_on_every_machine() -> None:
    """A system's release of the same font has other glyphs, and files would differ by the machine."""
    with style.drawing():
        found = [font_manager.findfont(font_manager.FontProperties(style=of)) for of in ("normal", "italic")]
    own = Path(matplotlib.get_data_path()).resolve()
    assert all(Path(path).resolve().is_relative_to(own) for path in found) and "Oblique" in found[1]
