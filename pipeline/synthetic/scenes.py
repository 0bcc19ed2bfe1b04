"""Renders the scenes of the user sample: six kinds of moving pictures, made by arithmetic.

Who likes which kind is not decided here. Pictures are made without sines of pixels and without sums
over them, for the reason that `drawing` names.

Letters in shapes: T frames, H height, W width. Coordinates are those of `drawing.Canvas`.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.drawing import Canvas, Plane, between, cosine_and_sine, fraction

Layers = tuple[Plane, Plane]
"""`(T, H, W)` each, in [0, 1]: how much the figure covers the ground, and the share of its second
colour.
"""

N_NUMBERS = 64
HUE_SPREAD = 0.15
"""Hues of neighbouring kinds, 1/6 apart, overlap, so that colour does not show the kind by
itself.
"""


@dataclass(frozen=True)
class SceneStyle:
    """What distinguishes two scenes of one kind."""

    colours: Plane
    """`(4, 3)` RGB in [0, 1]: top and bottom of the ground, figure, its second colour."""
    numbers: Plane
    """`(64,)` in [0, 1): each kind takes its positions, speeds and sizes from here."""


def random_scene_style(kind: str, rng: np.random.Generator) -> SceneStyle:
    """A style for one scene: the hue of its kind, jittered; everything else at random."""
    hue = list(KINDS).index(kind) / len(KINDS) + rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    ground = hue + rng.uniform(0.3, 0.7)
    light = rng.uniform(0.12, 0.45)
    # The order of the draws is part of the result: the same seed has to give the same bytes.
    top = colorsys.hsv_to_rgb(ground % 1, rng.uniform(0.3, 0.7), light)
    bottom_saturation, bottom_share = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.9)
    bottom = colorsys.hsv_to_rgb((ground + 0.08) % 1, bottom_saturation, light * bottom_share)
    figure = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.6, 0.9), rng.uniform(0.75, 1.0))
    second_hue = (hue + rng.uniform(0.06, 0.14)) % 1
    second = colorsys.hsv_to_rgb(second_hue, rng.uniform(0.2, 0.5), 1.0)
    colours = np.array((top, bottom, figure, second), np.float32)
    return SceneStyle(colours, rng.random(N_NUMBERS, np.float32))


def render_scene(
    kind: str, style: SceneStyle, times_seconds: NDArray[np.float64], *, width: int, height: int
) -> NDArray[np.uint8]:
    """Render a scene at `(T,)` seconds after its start: `(T, H, W, 3)` uint8 RGB."""
    canvas = Canvas.of_size(width, height)
    seconds = times_seconds.astype(np.float32)[:, None, None]
    cover, second = KINDS[kind](canvas, seconds, style.numbers)
    fall = (canvas.y + 1) / 2
    pictures = np.empty((len(times_seconds), height, width, 3), np.uint8)
    for channel, (top, bottom, figure, accent) in enumerate(style.colours.T):
        ground = top + (bottom - top) * fall
        colour = figure + (accent - figure) * second
        pictures[..., channel] = (ground + (colour - ground) * cover) * 255 + 0.5
    return pictures


def _zigzag(value: Plane) -> Plane:
    """A wave of period 1 that falls linearly from 1 to 0 and rises back."""
    return np.abs(fraction(value) * 2 - 1)


def _balls(canvas: Canvas, t: Plane, numbers: Plane) -> Layers:
    """Shaded balls that bounce off the floor while they wander from wall to wall."""
    cover: Plane = np.zeros(1, np.float32)
    shine = cover
    for size, rate, phase, reach, start in numbers[:25].reshape(5, 5):
        radius = between(0.2, 0.36, size)
        hop = fraction(t * between(0.7, 1.2, rate) + phase)
        centre_y = (1 - radius) - between(1.0, 1.5, reach) * 4 * hop * (1 - hop)
        # A ball that hops higher also wanders faster: one number serves both.
        centre_x = (_zigzag(t * between(0.12, 0.3, reach) + start) - 0.5) * 2.2
        away_x, away_y = canvas.x - centre_x, canvas.y - centre_y
        ball = canvas.inside(np.sqrt(away_x * away_x + away_y * away_y) - radius)
        lit_x, lit_y = away_x + radius * 0.35, away_y + radius * 0.35
        lit = np.clip(1 - np.sqrt(lit_x * lit_x + lit_y * lit_y) / (radius * 0.9), 0, 1)
        shine = shine + (lit - shine) * ball
        cover = cover + (1 - cover) * ball
    return cover, shine


def _bars(canvas: Canvas, t: Plane, numbers: Plane) -> Layers:
    """Broad bars that turn about a hub."""
    turn = between(1.0, 2.2, numbers[0]) * (1 if numbers[1] < 0.5 else -1)
    away_x = canvas.x - between(-0.3, 0.3, numbers[2])
    away_y = canvas.y - between(-0.2, 0.2, numbers[3])
    n_bars = 2 + int(numbers[4] * 2)
    half_width = between(0.1, 0.2, numbers[5])
    cover: Plane = np.zeros(1, np.float32)
    second = cover
    for bar in range(n_bars):
        cosine, sine = cosine_and_sine(t * turn + numbers[6] * 6 + bar * math.pi / n_bars)
        across = np.abs(away_x * cosine + away_y * sine)
        inside = canvas.inside(across - half_width)
        cover = np.maximum(cover, inside)
        second = np.maximum(second, canvas.inside(across - half_width * 0.35))
    return cover, second


def _stripes(canvas: Canvas, t: Plane, numbers: Plane) -> Layers:
    """Slanting stripes that drift across."""
    cosine, sine = cosine_and_sine(between(0.3, 2.8, numbers[0]))
    drift = between(0.6, 1.3, numbers[1]) * (1 if numbers[2] < 0.5 else -1)
    across = canvas.x * cosine + canvas.y * sine
    wave = _zigzag(across * between(1.6, 2.8, numbers[3]) - t * drift)
    return np.clip((wave - 0.45) * 6, 0, 1), np.clip(wave * 2 - 1, 0, 1)


def _rings(canvas: Canvas, t: Plane, numbers: Plane) -> Layers:
    """Thin rings that grow out of a point and fade."""
    away_x = canvas.x - between(-0.6, 0.6, numbers[0])
    away_y = canvas.y - between(-0.4, 0.4, numbers[1])
    radius = np.sqrt(away_x * away_x + away_y * away_y)
    wave = _zigzag(radius * between(1.8, 3.0, numbers[2]) - t * between(0.7, 1.4, numbers[3]))
    fade = np.clip(1.25 - radius * 0.5, 0, 1)
    return np.clip((wave - 0.55) * 6, 0, 1) * fade, np.clip(1 - radius, 0, 1) + 0 * t


def _rain(canvas: Canvas, t: Plane, numbers: Plane) -> Layers:
    """Thin slanting streaks that fall, each at its own speed."""
    slant = between(-0.25, 0.25, numbers[0])
    column = (canvas.x + slant * canvas.y) * between(8, 12, numbers[1])
    whole = np.floor(column)
    index = whole.astype(np.int64)
    # Multiples of small primes give every column a speed and a phase of its own.
    speed, phase = numbers[index * 7 % N_NUMBERS], numbers[(index * 11 + 5) % N_NUMBERS]
    trail = fraction((canvas.y + 1) * 0.4 - t * between(0.9, 1.6, speed) - phase)
    along = np.clip((trail - 0.55) * 2.2, 0, 1)
    across = np.clip((0.34 - np.abs(column - whole - 0.5)) * 5, 0, 1)
    return along * across, np.clip((trail - 0.9) * 10, 0, 1)


def _checkers(canvas: Canvas, t: Plane, numbers: Plane) -> Layers:
    """A chessboard whose squares change places as they flicker, each a little out of step."""
    squares = between(1.6, 2.6, numbers[0])
    column, row = (np.floor((axis + 2) * squares).astype(np.int64) for axis in (canvas.x, canvas.y))
    out_of_step = numbers[(column * 7 + row * 13) % N_NUMBERS] * 0.25
    parity = ((column + row) % 2).astype(np.float32) * 0.5
    wave = _zigzag(t * between(0.8, 1.6, numbers[1]) + parity + out_of_step)
    shade = numbers[(column * 5 + row * 3) % N_NUMBERS]
    return np.clip(wave * 3 - 1, 0, 1), np.clip(wave * 2 - 1, 0, 1) * shade


KINDS: dict[str, Callable[[Canvas, Plane, Plane], Layers]] = {
    "balls": _balls,
    "bars": _bars,
    "stripes": _stripes,
    "rings": _rings,
    "rain": _rain,
    "checkers": _checkers,
}
"""Kind of scene → the function that renders it, in the order of their hues."""
