"""Renders segments of the category sample: a figure that rests or performs beside a bystander.

The ground carries dim extras, some of which move. A rendered segment includes the mask of its
figure. Domains and labels are not decided here.

Letters in shapes: T frames, H height, W width. Coordinates are those of `drawing.Canvas`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.drawing import Canvas, Plane, between, cosine_and_sine, fraction

FIGURES = ("disc", "bar", "ring", "cross")
MANNERS = ("still", "drift", "hop", "turn", "circle", "dash")
"""The motions of a figure. The first two are quiet; each of the others is a performance."""
QUIET_MANNERS = 2
BYSTANDER = "wedge"
"""The distractor beside the figure, as large and as bright. It performs in half of the segments,
independently of the figure, and is never part of a highlight.
"""
SIZES = (0.34, 0.38)
"""Radius, about. The range is small, because otherwise a score by the number of pixels that a map
claims would rank by size too.
"""
HOP, DASH, CIRCLE = 0.25, 0.25, 0.18
"""Height of a hop, length of a dash to either side, and radius of a circle.

A figure stands somewhere on the path of each of these, and leaves that place only on the path that
it performs. So a single frame does not show the motion.
"""
ROOM = 0.7
"""A figure and its performance stay within about this distance of its centre."""
PERIODS_A_SECOND = (0.9, 1.3)
DRIFT = 0.12
"""Highest speed of a drift along each axis."""
EXTRAS = 3
"""Dim discs on the ground, each of which rests or moves independently of the figure."""
EXTRA_LIGHT = 0.22
"""How much lighter an extra is than the ground; a figure stands out by several times that."""
SPRITE_NUMBERS, EXTRA_NUMBERS = 11, 8
"""Random numbers that describe a figure or a bystander, and those that describe an extra."""
ALL_NUMBERS = 2 * SPRITE_NUMBERS + EXTRAS * EXTRA_NUMBERS + 1


@dataclass(frozen=True)
class SegmentStyle:
    """What distinguishes two segments with the same figure in the same manner."""

    colours: Plane
    """`(4, 3)` RGB in [0, 1]: top of the ground, bottom of the ground, figure, bystander."""
    numbers: Plane
    """`(47,)` in [0, 1): 11 of the figure, 11 of the bystander, 8 of each extra, and one that
    chooses what the bystander does.
    """

    @property
    def bystander(self) -> str:
        """The bystander's manner: a quiet one or a performance, equally likely."""
        choice = float(self.numbers[-1])
        manners = MANNERS[:QUIET_MANNERS] if choice < 0.5 else MANNERS[QUIET_MANNERS:]
        return manners[int(2 * choice % 1 * len(manners))]


@dataclass(frozen=True)
class RenderedSegment:
    """The frames of a segment and the masks of its figure."""

    pictures: NDArray[np.uint8]
    """`(T, H, W, 3)` RGB."""
    figure_masks: NDArray[np.bool_]
    """`(T, H, W)`: the pixels that the figure covers by more than half; without the bystander."""


def random_segment_style(rng: np.random.Generator) -> SegmentStyle:
    """A style for one segment, independent of what its figure does."""
    hue, figure_hue, bystander_hue = rng.random(3)
    light = rng.uniform(0.15, 0.4)
    # The order of the draws is part of the result: the same seed has to give the same bytes.
    top = colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 0.6), light)
    bottom_saturation, bottom_share = rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.0)
    bottom = colorsys.hsv_to_rgb((hue + 0.1) % 1, bottom_saturation, light * bottom_share)
    figure = colorsys.hsv_to_rgb(figure_hue, rng.uniform(0.2, 0.7), rng.uniform(0.85, 1.0))
    bystander = colorsys.hsv_to_rgb(bystander_hue, rng.uniform(0.2, 0.7), rng.uniform(0.85, 1.0))
    colours = np.array((top, bottom, figure, bystander), np.float32)
    return SegmentStyle(colours, rng.random(ALL_NUMBERS, np.float32))


def render_segment(
    figure: str,
    manner: str,
    style: SegmentStyle,
    times_seconds: NDArray[np.float64],
    *,
    width: int,
    height: int,
) -> RenderedSegment:
    """Render a segment at `(T,)` seconds after its start.

    Raises KeyError for an unknown figure or manner.
    """
    if manner not in MANNERS:
        raise KeyError(manner)
    canvas = Canvas.of_size(width, height)
    seconds = times_seconds.astype(np.float32)[:, None, None]
    ends = [SPRITE_NUMBERS, 2 * SPRITE_NUMBERS, ALL_NUMBERS - 1]
    of_figure, of_bystander, of_extras, _ = np.split(style.numbers, ends)
    figure_sprite = _Sprite.from_numbers(figure, manner, of_figure, _centre(*of_figure[:2]))
    bystander_sprite = _Sprite.from_numbers(
        BYSTANDER, style.bystander, of_bystander, _centre_beside(of_figure[0], of_bystander)
    )
    figure_cover = figure_sprite.cover(canvas, seconds)
    bystander_cover = bystander_sprite.cover(canvas, seconds)
    extra_cover = np.zeros((1, 1, 1), np.float32)
    for numbers in of_extras.reshape(EXTRAS, EXTRA_NUMBERS):
        extra_cover = np.maximum(extra_cover, _extra_cover(numbers, canvas, seconds))
    pictures = np.empty((len(times_seconds), height, width, 3), np.uint8)
    fall = (canvas.y + 1) / 2
    for channel, (top, bottom, figure_colour, bystander_colour) in enumerate(style.colours.T):
        ground = top + (bottom - top) * fall + EXTRA_LIGHT * extra_cover
        # The figure is painted last, so it is never hidden by the bystander.
        behind = ground + (bystander_colour - ground) * bystander_cover
        painted = behind + (figure_colour - behind) * figure_cover
        pictures[..., channel] = painted * 255 + np.float32(0.5)
    return RenderedSegment(pictures, figure_cover > 0.5)


@dataclass(frozen=True)
class _Sprite:
    """A figure or a bystander in one segment. Phases and the angle are in turns, [0, 1)."""

    shape: str
    manner: str
    centre: tuple[Plane, Plane]
    radius: Plane
    rate: Plane
    """Periods per second of hops, dashes and circles; turns take two periods."""
    phase: Plane
    angle: Plane
    drift: tuple[Plane, Plane]
    """Speed to the right and down."""
    hop_phase: Plane
    dash_phase: Plane
    circle_phase: Plane

    @staticmethod
    def from_numbers(
        shape: str, manner: str, numbers: Plane, centre: tuple[Plane, Plane]
    ) -> _Sprite:
        """A sprite from `(11,)` numbers in [0, 1), of which the first two made its centre."""
        _, _, size, rate, phase, angle, drift_x, drift_y, hop, dash, circle = numbers
        return _Sprite(
            shape=shape,
            manner=manner,
            centre=centre,
            radius=between(*SIZES, size),
            rate=between(*PERIODS_A_SECOND, rate),
            phase=phase,
            angle=angle,
            drift=(between(-DRIFT, DRIFT, drift_x), between(-DRIFT, DRIFT, drift_y)),
            hop_phase=hop,
            dash_phase=dash,
            circle_phase=circle,
        )

    def cover(self, canvas: Canvas, seconds: Plane) -> Plane:
        """`(T, H, W)` in [0, 1]: how much of each pixel the sprite covers."""
        centre_x, centre_y = self.centre
        right, down = self._offset(seconds)
        away_x, away_y = canvas.x - centre_x - right, canvas.y - centre_y - down
        cosine, sine = self._orientation(seconds)
        along = away_x * cosine + away_y * sine
        across = away_y * cosine - away_x * sine
        return canvas.inside(_SHAPES[self.shape](along, across, self.radius))

    def _orientation(self, seconds: Plane) -> tuple[Plane, Plane]:
        """Cosine and sine of the angle at each time."""
        # `0 * seconds` keeps the shape and the rounding of a sprite that turns.
        turned = seconds * self.rate / 2 if self.manner == "turn" else 0 * seconds
        return _cosine_and_sine_of_turns(self.angle + turned)

    def _offset(self, seconds: Plane) -> tuple[Plane, Plane]:
        """How far the sprite is from its centre at each time, to the right and down."""
        beat = _wave(seconds * self.rate + self.phase)
        hop = beat if self.manner == "hop" else _wave(self.hop_phase)
        dash = beat if self.manner == "dash" else _wave(self.dash_phase)
        circled = seconds * self.rate if self.manner == "circle" else 0 * seconds
        cosine, sine = _cosine_and_sine_of_turns(self.circle_phase + circled)
        drifted = seconds if self.manner == "drift" else 0 * seconds
        drift_x, drift_y = self.drift
        right = DASH * dash + CIRCLE * cosine + drift_x * drifted
        down = HOP * (0.5 - np.abs(hop)) + CIRCLE * sine + drift_y * drifted
        return right, down


def _wave(value: Plane) -> Plane:
    """A smooth wave of period 1 in [-1, 1], made of parabolas: 0 at whole numbers, 1 at 1/4."""
    part = fraction(value)
    half = fraction(part * 2)
    hill = 4 * half * (1 - half)
    return np.where(part < 0.5, hill, -hill)


def _cosine_and_sine_of_turns(turns: NDArray[np.floating]) -> tuple[Plane, Plane]:
    return cosine_and_sine(np.asarray(turns, np.float64) * (2 * np.pi))


def _centre(number_x: Plane, number_y: Plane) -> tuple[Plane, Plane]:
    """The centre of a figure: anywhere that leaves room for it on a picture of 3:2."""
    return between(ROOM - 1.5, 1.5 - ROOM, number_x), between(ROOM - 1, 1 - ROOM, number_y)


def _centre_beside(figure_x: Plane, of_bystander: Plane) -> tuple[Plane, Plane]:
    """The bystander's centre: about half a picture from the figure's, so that they rarely meet."""
    number_x = fraction(figure_x + between(0.4, 0.6, of_bystander[0]))
    return _centre(*np.array([number_x, of_bystander[1]], np.float32))


def _extra_cover(numbers: Plane, canvas: Canvas, seconds: Plane) -> Plane:
    """`(T, H, W)` in [0, 1]: a small disc that rests or swings to and fro."""
    number_x, number_y, size, motion, rate, phase, direction, _ = numbers
    swing = 0.3 if motion < 0.5 else 0.0
    beat = _wave(seconds * between(*PERIODS_A_SECOND, rate) + phase) * swing
    cosine, sine = _cosine_and_sine_of_turns(direction)
    away_x = canvas.x - between(-1.3, 1.3, number_x) - beat * cosine
    away_y = canvas.y - between(-0.8, 0.8, number_y) - beat * sine
    return canvas.inside(_disc(away_x, away_y, between(0.12, 0.22, size)))


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
    """A triangle with three equal sides."""
    edge: Plane = np.maximum(np.abs(across) * 0.866 + along * 0.5, -along) - radius * 0.6
    return edge


_SHAPES: dict[str, Callable[[Plane, Plane, Plane], Plane]] = {
    "disc": _disc,
    "bar": _bar,
    "ring": _ring,
    "cross": _cross,
    "wedge": _wedge,
}
"""Shape → signed distance from its edge, negative inside, at `along` and `across` its axes."""
