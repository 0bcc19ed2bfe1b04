"""Building blocks of synthetic pictures: the canvas, interpolation, and directions.

Only operations that IEEE 754 defines to the last bit shape a picture, so that every processor draws
the same bytes.

Letters in shapes: H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """The coordinates of a picture: y runs from -1 (top) to 1, x from -W/H to W/H."""

    x: Plane
    """`(1, 1, W)`"""
    y: Plane
    """`(1, H, 1)`"""
    pixel: float
    """Side of a pixel. Edges are two pixels soft."""

    @staticmethod
    def of_size(width: int, height: int) -> Canvas:
        """The canvas of a picture of so many pixels."""
        x = ((np.arange(width) + 0.5) / height * 2 - width / height).astype(np.float32)
        y = ((np.arange(height) + 0.5) / height * 2 - 1).astype(np.float32)
        return Canvas(x[None, None, :], y[None, :, None], 2 / height)

    def inside(self, distance: Plane) -> Plane:
        """1 where a signed distance is below 0, 0 where above, with a soft edge between."""
        softened: Plane = np.clip(0.5 - distance / (2 * self.pixel), 0, 1)
        return softened


def between(low: float, high: float, number: Plane) -> Plane:
    """Maps [0, 1) to [low, high)."""
    return low + (high - low) * number


def fraction(value: Plane) -> Plane:
    """The part behind the point, in [0, 1)."""
    return value - np.floor(value)


def cosine_and_sine(radians: NDArray[np.floating]) -> tuple[Plane, Plane]:
    """Cosine and sine, rounded to five digits."""
    # Rounding removes the last bits, in which the libraries of two processors may differ.
    angles = np.asarray(radians, np.float64)
    cosine = np.round(np.cos(angles), 5).astype(np.float32)
    sine = np.round(np.sin(angles), 5).astype(np.float32)
    return cosine, sine
