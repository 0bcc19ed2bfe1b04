"""Figures that hold still, drift or perform beside a bystander, over a ground on which dim things
move: segments of a video.

Knows one segment at a time, and where its figure is. Refuses to know files, domains and labels. As
in `scenes.py`, only operations that IEEE 754 defines to the last bit shape a picture.

Letters in shapes: T frames, H height, W width. Coordinates: y runs from -1 (top) to 1, x from -W/H
to W/H.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
FIGURES = ("disc", "bar", "ring", "cross")
MANNERS = ("still", "drift", "hop", "turn", "circle", "dash")
"""What a figure can do. The first two are quiet; each of the others is one way to perform."""
QUIET_MANNERS = 2
BYSTANDER = "wedge"
"""Beside the figure stands another one, as large and as bright, which performs as often as not,
whatever the figure does. It is nothing to look at.
"""
SIZES = (0.34, 0.38)
"""Radius, about. Nearly one: whoever scores by how many pixels a map claims would rank by size
too.
"""
HOP, DASH, CIRCLE = 0.25, 0.25, 0.18
"""How high a figure hops, how far it dashes to either side, and the radius of its circles. Each
figure is somewhere on the way of each of these; of all but the one that it does, it stays there, so
that a frame is drawn alike whatever it does.
"""
ROOM = 0.7
"""A figure and its performance stay about within so much of its place."""
PERIODS_A_SECOND = (0.9, 1.3)
EXTRAS = 3
"""Dim things on the ground, each of which holds still or moves, whatever the figure does."""
EXTRA_LIGHT = 0.22
"""How much lighter an extra is than the ground; a figure stands out by several times that."""


@dataclass(frozen=True)
class SegmentStyle:
    """What sets one segment apart from another with the same figure in the same manner."""

    colours: Plane
    """`(4, 3)` RGB in [0, 1]: ground above, ground below, figure, bystander."""
    numbers: Plane
    """`(47,)` in [0, 1): place, size, speeds and phases, 11 of the figure, 11 of the bystander and
    8 of each extra; and what the bystander does.
    """

    @property
    def bystander(self) -> str:
        """What the bystander does: one of the quiet manners, or as likely one of the others."""
        does = float(self.numbers[-1])
        manners = MANNERS[:QUIET_MANNERS] if does < 0.5 else MANNERS[QUIET_MANNERS:]
        return manners[int(2 * does % 1 * len(manners))]


@dataclass(frozen=True)
class RenderedSegment:
    """A drawn segment."""

    pictures: NDArray[np.uint8]
    """`(T, H, W, 3)` RGB."""
    figure_masks: NDArray[np.bool_]
    """`(T, H, W)`: the pixels that the figure covers for more than half; the bystander's are
    none.
    """


def random_segment_style(rng: np.random.Generator) -> SegmentStyle:
    """A look for one segment. Neither its ground nor a colour nor the bystander tells what the
    figure does.
    """
    hue, figure, bystander = rng.random(3)
    light = rng.uniform(0.15, 0.4)
    colours = (
        colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 0.6), light),
        colorsys.hsv_to_rgb((hue + 0.1) % 1, rng.uniform(0.2, 0.6), light * rng.uniform(0.6, 1.0)),
        *(
            colorsys.hsv_to_rgb(one, rng.uniform(0.2, 0.7), rng.uniform(0.85, 1.0))
            for one in (figure, bystander)
        ),
    )
    return SegmentStyle(np.array(colours, np.float32), rng.random(47, np.float32))


def render_segment(
    figure: str,
    manner: str,
    look: SegmentStyle,
    times_seconds: NDArray[np.float64],
    *,
    width: int,
    height: int,
) -> RenderedSegment:
    """Draw a segment at `(T,)` seconds since it began. KeyError for a figure or manner that there
    is not.
    """
    if manner not in MANNERS:
        raise KeyError(manner)
    x = (((np.arange(width) + 0.5) / height * 2 - width / height).astype(np.float32))[None, None, :]
    y = (((np.arange(height) + 0.5) / height * 2 - 1).astype(np.float32))[None, :, None]
    t = times_seconds.astype(np.float32)[:, None, None]
    pixel = 2 / height
    of_figure, of_bystander, of_extras, _ = np.split(look.numbers, [11, 22, 46])
    cover = _cover(figure, manner, of_figure, _place(of_figure), x, y, t, pixel)
    beside = _cover(
        BYSTANDER,
        look.bystander,
        of_bystander,
        _place_beside(of_figure, of_bystander),
        x,
        y,
        t,
        pixel,
    )
    light = np.zeros((1, 1, 1), np.float32)
    for extra in of_extras.reshape(EXTRAS, 8):
        light = np.maximum(light, _extra(extra, x, y, t, pixel))
    pictures = np.empty((len(times_seconds), height, width, 3), np.uint8)
    fall = (y + 1) / 2
    for channel, (above, below, colour, other) in enumerate(look.colours.T):
        ground = above + (below - above) * fall + EXTRA_LIGHT * light
        behind = ground + (other - ground) * beside
        pictures[..., channel] = (behind + (colour - behind) * cover) * 255 + np.float32(0.5)
    return RenderedSegment(pictures, cover > 0.5)


def _between(low: float, high: float, number: Plane) -> Plane:
    return low + (high - low) * number


def _fraction(value: Plane) -> Plane:
    return value - np.floor(value)


def _wave(value: Plane) -> Plane:
    """A smooth wave of period 1 between -1 and 1, made of parabolas: 0 at whole numbers, 1 at a
    quarter.
    """
    part = _fraction(value)
    half = _fraction(part * 2)
    hill = 4 * half * (1 - half)
    return np.where(part < 0.5, hill, -hill)


def _place(numbers: Plane) -> tuple[Plane, Plane]:
    """Where the middle of a figure is at rest: anywhere that leaves it room on a picture half as
    wide again as high.
    """
    return _between(ROOM - 1.5, 1.5 - ROOM, numbers[0]), _between(ROOM - 1, 1 - ROOM, numbers[1])


def _place_beside(numbers: Plane, others: Plane) -> tuple[Plane, Plane]:
    """The bystander's: about half of the way across from the figure's, so that they hardly meet."""
    away = _fraction(numbers[0] + _between(0.4, 0.6, others[0]))
    return _place(np.array([away, others[1]], np.float32))


def _cover(
    figure: str,
    manner: str,
    numbers: Plane,
    place: tuple[Plane, Plane],
    x: Plane,
    y: Plane,
    t: Plane,
    pixel: float,
) -> Plane:
    """`(T, H, W)` in [0, 1]."""
    centre_x, centre_y = place
    radius = _between(*SIZES, numbers[2])
    beat = _wave(t * _between(*PERIODS_A_SECOND, numbers[3]) + numbers[4])
    cosine, sine = _turned(
        numbers[5]
        + (t * _between(*PERIODS_A_SECOND, numbers[3]) / 2 if manner == "turn" else 0 * t)
    )
    move_x, move_y = _move(manner, beat, t, numbers)
    away_x, away_y = x - centre_x - move_x, y - centre_y - move_y
    along, across = away_x * cosine + away_y * sine, away_y * cosine - away_x * sine
    distance = _SHAPES[figure](along, across, radius)
    softened: Plane = np.clip(0.5 - distance / (2 * pixel), 0, 1)
    return softened


def _move(manner: str, beat: Plane, t: Plane, numbers: Plane) -> tuple[Plane, Plane]:
    """How far the figure is from its place, to the right and down."""
    hop, dash = (
        beat if manner == one else _wave(number)
        for one, number in (("hop", numbers[8]), ("dash", numbers[9]))
    )
    cosine, sine = _turned(
        numbers[10] + (t * _between(*PERIODS_A_SECOND, numbers[3]) if manner == "circle" else 0 * t)
    )
    away = t if manner == "drift" else 0 * t
    right = DASH * dash + CIRCLE * cosine + _between(-0.12, 0.12, numbers[6]) * away
    return right, HOP * (0.5 - np.abs(hop)) + CIRCLE * sine + _between(
        -0.12, 0.12, numbers[7]
    ) * away


def _turned(turns: Plane) -> tuple[Plane, Plane]:
    """Cosine and sine, rounded well above what one processor's library differs from another's."""
    angles = np.asarray(turns, np.float64) * (2 * np.pi)
    return np.round(np.cos(angles), 5).astype(np.float32), np.round(np.sin(angles), 5).astype(
        np.float32
    )


def _extra(numbers: Plane, x: Plane, y: Plane, t: Plane, pixel: float) -> Plane:
    """`(T, H, W)` in [0, 1]: a small disc that holds still or goes to and fro."""
    is_moving = numbers[3] < 0.5
    beat = _wave(t * _between(*PERIODS_A_SECOND, numbers[4]) + numbers[5]) * (
        0.3 if is_moving else 0.0
    )
    cosine, sine = _turned(numbers[6])
    away_x = x - _between(-1.3, 1.3, numbers[0]) - beat * cosine
    away_y = y - _between(-0.8, 0.8, numbers[1]) - beat * sine
    distance = np.sqrt(away_x * away_x + away_y * away_y) - _between(0.12, 0.22, numbers[2])
    softened: Plane = np.clip(0.5 - distance / (2 * pixel), 0, 1)
    return softened


def _disc(along: Plane, across: Plane, radius: Plane) -> Plane:
    return np.sqrt(along * along + across * across) - radius


def _bar(along: Plane, across: Plane, radius: Plane) -> Plane:
    edge: Plane = np.maximum(np.abs(along) - radius * 1.4, np.abs(across) - radius * 0.6)
    return edge


def _ring(along: Plane, across: Plane, radius: Plane) -> Plane:
    edge: Plane = np.abs(np.sqrt(along * along + across * across) - radius * 0.85) - radius * 0.3
    return edge


def _cross(along: Plane, across: Plane, radius: Plane) -> Plane:
    wide = np.maximum(np.abs(along) - radius * 1.2, np.abs(across) - radius * 0.4)
    high = np.maximum(np.abs(along) - radius * 0.4, np.abs(across) - radius * 1.2)
    edge: Plane = np.minimum(wide, high)
    return edge


def _wedge(along: Plane, across: Plane, radius: Plane) -> Plane:
    """With three equal sides."""
    edge: Plane = np.maximum(np.abs(across) * 0.866 + along * 0.5, -along) - radius * 0.6
    return edge


_SHAPES: dict[str, Callable[[Plane, Plane, Plane], Plane]] = {
    "disc": _disc,
    "bar": _bar,
    "ring": _ring,
    "cross": _cross,
    "wedge": _wedge,
}
"""Figure → distance from its edge, negative inside, of `along` and `across` its axes."""
