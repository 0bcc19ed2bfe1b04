"""Six kinds of moving pictures, drawn by arithmetic: what the sample's videos are made of.

Knows one scene at a time. Refuses to know files, users and who likes what. Only operations that
IEEE 754 defines to the last bit shape a picture (no sines of pixels, no sums over them), so every
processor draws the same bytes.

Letters in shapes: T frames, H height, W width. Coordinates: y runs from -1 (top) to 1, x from -W/H
to W/H.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Layers = tuple[Plane, Plane]
"""`(T, H, W)` each, in [0, 1]: how much the figure covers the ground, and how much of its second
colour it shows.
"""

N_NUMBERS = 64
HUE_SPREAD = 0.15
"""Hues of neighbouring kinds, 1/6 apart, overlap: colour hints at the kind and does not give it
away.
"""


@dataclass(frozen=True)
class SceneStyle:
    """What sets one scene apart from another of its kind."""

    colours: Plane
    """`(4, 3)` RGB in [0, 1]: ground above, ground below, figure, the figure's second colour."""
    numbers: Plane
    """`(64,)` in [0, 1): each kind takes its positions, speeds and sizes from here."""


@dataclass(frozen=True)
class _Canvas:
    x: Plane
    """`(1, 1, W)`"""
    y: Plane
    """`(1, H, 1)`"""
    pixel: float
    """Side of a pixel: edges are as soft as two of them."""

    def inside(self, distance: Plane) -> Plane:
        """1 where a signed distance is below 0, 0 where above, with a soft edge between."""
        softened: Plane = np.clip(0.5 - distance / (2 * self.pixel), 0, 1)
        return softened


def random_scene_style(kind: str, rng: np.random.Generator) -> SceneStyle:
    """A style for one scene: its kind's hue, jittered; everything else at random."""
    hue = list(KINDS).index(kind) / len(KINDS) + rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    ground = hue + rng.uniform(0.3, 0.7)
    light = rng.uniform(0.12, 0.45)
    colours = (
        colorsys.hsv_to_rgb(ground % 1, rng.uniform(0.3, 0.7), light),
        colorsys.hsv_to_rgb(
            (ground + 0.08) % 1, rng.uniform(0.3, 0.7), light * rng.uniform(0.4, 0.9)
        ),
        colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.6, 0.9), rng.uniform(0.75, 1.0)),
        colorsys.hsv_to_rgb((hue + rng.uniform(0.06, 0.14)) % 1, rng.uniform(0.2, 0.5), 1.0),
    )
    return SceneStyle(np.array(colours, np.float32), rng.random(N_NUMBERS, np.float32))


def render_scene(
    kind: str, style: SceneStyle, times_seconds: NDArray[np.float64], *, width: int, height: int
) -> NDArray[np.uint8]:
    """Draw a scene at `(T,)` seconds since it began: `(T, H, W, 3)` uint8 RGB."""
    x = ((np.arange(width) + 0.5) / height * 2 - width / height).astype(np.float32)
    y = ((np.arange(height) + 0.5) / height * 2 - 1).astype(np.float32)
    canvas = _Canvas(x[None, None, :], y[None, :, None], 2 / height)
    cover, second = KINDS[kind](
        canvas, times_seconds.astype(np.float32)[:, None, None], style.numbers
    )
    fall = (canvas.y + 1) / 2
    picture = np.empty((len(times_seconds), height, width, 3), np.uint8)
    for channel, (above, below, figure, accent) in enumerate(style.colours.T):
        ground = above + (below - above) * fall
        colour = figure + (accent - figure) * second
        picture[..., channel] = (ground + (colour - ground) * cover) * 255 + 0.5
    return picture


def _between(low: float, high: float, number: Plane) -> Plane:
    return low + (high - low) * number


def _fraction(value: Plane) -> Plane:
    return value - np.floor(value)


def _zigzag(value: Plane) -> Plane:
    """A wave of period 1 that falls from 1 to 0 and rises back."""
    return np.abs(_fraction(value) * 2 - 1)


def _direction(angle_radians: Plane) -> tuple[Plane, Plane]:
    """Cosine and sine, rounded well above what one processor's library differs from another's."""
    angles = np.asarray(angle_radians, np.float64)
    return np.round(np.cos(angles), 5).astype(np.float32), np.round(np.sin(angles), 5).astype(
        np.float32
    )


def _balls(canvas: _Canvas, t: Plane, numbers: Plane) -> Layers:
    """Shaded balls that bounce off the floor while they wander from wall to wall."""
    cover: Plane = np.zeros(1, np.float32)
    shine = cover
    for a, b, c, d, e in numbers[:25].reshape(5, 5):
        radius = _between(0.2, 0.36, a)
        hop = _fraction(t * _between(0.7, 1.2, b) + c)
        centre_y = (1 - radius) - _between(1.0, 1.5, d) * 4 * hop * (1 - hop)
        centre_x = (_zigzag(t * _between(0.12, 0.3, d) + e) - 0.5) * 2.2
        away_x, away_y = canvas.x - centre_x, canvas.y - centre_y
        ball = canvas.inside(np.sqrt(away_x * away_x + away_y * away_y) - radius)
        lit_x, lit_y = away_x + radius * 0.35, away_y + radius * 0.35
        lit = np.clip(1 - np.sqrt(lit_x * lit_x + lit_y * lit_y) / (radius * 0.9), 0, 1)
        shine = shine + (lit - shine) * ball
        cover = cover + (1 - cover) * ball
    return cover, shine


def _bars(canvas: _Canvas, t: Plane, numbers: Plane) -> Layers:
    """Broad bars that turn about a hub."""
    turn = _between(1.0, 2.2, numbers[0]) * (1 if numbers[1] < 0.5 else -1)
    away_x, away_y = (
        canvas.x - _between(-0.3, 0.3, numbers[2]),
        canvas.y - _between(-0.2, 0.2, numbers[3]),
    )
    n_bars = 2 + int(numbers[4] * 2)
    half_width = _between(0.1, 0.2, numbers[5])
    cover: Plane = np.zeros(1, np.float32)
    second = cover
    for bar in range(n_bars):
        cosine, sine = _direction(t * turn + numbers[6] * 6 + bar * math.pi / n_bars)
        across = np.abs(away_x * cosine + away_y * sine)
        inside = canvas.inside(across - half_width)
        cover = np.maximum(cover, inside)
        second = np.maximum(second, canvas.inside(across - half_width * 0.35))
    return cover, second


def _stripes(canvas: _Canvas, t: Plane, numbers: Plane) -> Layers:
    """Slanting stripes that drift across."""
    cosine, sine = _direction(_between(0.3, 2.8, numbers[0]))
    drift = _between(0.6, 1.3, numbers[1]) * (1 if numbers[2] < 0.5 else -1)
    wave = _zigzag(
        (canvas.x * cosine + canvas.y * sine) * _between(1.6, 2.8, numbers[3]) - t * drift
    )
    return np.clip((wave - 0.45) * 6, 0, 1), np.clip(wave * 2 - 1, 0, 1)


def _rings(canvas: _Canvas, t: Plane, numbers: Plane) -> Layers:
    """Thin rings that grow out of a point and fade."""
    away_x, away_y = (
        canvas.x - _between(-0.6, 0.6, numbers[0]),
        canvas.y - _between(-0.4, 0.4, numbers[1]),
    )
    radius = np.sqrt(away_x * away_x + away_y * away_y)
    wave = _zigzag(radius * _between(1.8, 3.0, numbers[2]) - t * _between(0.7, 1.4, numbers[3]))
    fade = np.clip(1.25 - radius * 0.5, 0, 1)
    return np.clip((wave - 0.55) * 6, 0, 1) * fade, np.clip(1 - radius, 0, 1) + 0 * t


def _rain(canvas: _Canvas, t: Plane, numbers: Plane) -> Layers:
    """Thin slanting streaks that fall, each at its own speed."""
    slant = _between(-0.25, 0.25, numbers[0])
    column = (canvas.x + slant * canvas.y) * _between(8, 12, numbers[1])
    whole = np.floor(column)
    index = whole.astype(np.int64)
    speed, phase = numbers[index * 7 % N_NUMBERS], numbers[(index * 11 + 5) % N_NUMBERS]
    trail = _fraction((canvas.y + 1) * 0.4 - t * _between(0.9, 1.6, speed) - phase)
    along = np.clip((trail - 0.55) * 2.2, 0, 1)
    across = np.clip((0.34 - np.abs(column - whole - 0.5)) * 5, 0, 1)
    return along * across, np.clip((trail - 0.9) * 10, 0, 1)


def _checkers(canvas: _Canvas, t: Plane, numbers: Plane) -> Layers:
    """A chessboard whose squares change places as they flicker, each a little out of step."""
    squares = _between(1.6, 2.6, numbers[0])
    column, row = (np.floor((axis + 2) * squares).astype(np.int64) for axis in (canvas.x, canvas.y))
    out_of_step = numbers[(column * 7 + row * 13) % N_NUMBERS] * 0.25
    parity = ((column + row) % 2).astype(np.float32) * 0.5
    wave = _zigzag(t * _between(0.8, 1.6, numbers[1]) + parity + out_of_step)
    return np.clip(wave * 3 - 1, 0, 1), np.clip(wave * 2 - 1, 0, 1) * numbers[
        (column * 5 + row * 3) % N_NUMBERS
    ]


KINDS: dict[str, Callable[[_Canvas, Plane, Plane], Layers]] = {
    "balls": _balls,
    "bars": _bars,
    "stripes": _stripes,
    "rings": _rings,
    "rain": _rain,
    "checkers": _checkers,
}
"""Kind of scene → how it is drawn, in the order of their hues."""
