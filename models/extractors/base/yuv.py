"""Pictures as video codecs store them, and the exact arithmetic by which FFmpeg makes RGB of them.

Source: libswscale's yuv2rgb for x86 (`ff_yuv2rgb_c_init_tables`, `yuv_2_rgb.asm`): 16-bit products
of which the upper half is kept, each chroma value for its block of 2×2 pixels. Whole numbers, so
any device gives the same bits. That an FFmpeg does compute so is for whoever makes `Planes` of its
pictures to check. Imports no torch; knows no decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRICES = {"601": (104597, 132201, 25675, 53279), "709": (117489, 138438, 13975, 34925)}
"""Standard → how much of V is in red, U in blue, U in green, V in green, times 65536, for a luma of
16 to 235. The latter two are subtracted.
"""
ONE = 1 << 16


@dataclass(frozen=True)
class Factors:
    """What the arithmetic multiplies by, in 16 bits."""

    luma: int
    black: int
    """Subtracted from eight times luma."""
    red: int
    blue: int
    green_u: int
    green_v: int


@dataclass(frozen=True)
class Planes:
    """One picture in planar YUV 4:2:0 of 8 bits, upright. Height and width are even."""

    pixels: NDArray[np.uint8]
    """`(H * 3 / 2, W)`: luma, then U, then V, each a quarter of luma."""
    matrix: str
    """A key of `MATRICES`."""
    full_range: bool
    """Whether luma is 0 to 255, and not 16 to 235."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the RGB picture it stands for: (H, W, 3)."""
        rows, width = self.pixels.shape
        return (rows * 2 // 3, width, 3)

    @property
    def factors(self) -> Factors:
        """For this picture's matrix and range."""
        return factors(self.matrix, full_range=self.full_range)

    def copy(self) -> Planes:
        """In memory of its own."""
        return Planes(self.pixels.copy(), self.matrix, self.full_range)


def factors(matrix: str, *, full_range: bool) -> Factors:
    """As libswscale rounds them. KeyError for a matrix that is not in `MATRICES`."""
    parts = MATRICES[matrix]
    luma, black = (ONE, 0) if full_range else (ONE * 255 // 219, 16)
    red, blue, green_u, green_v = (part * 224 // 255 if full_range else part for part in parts)
    return Factors(
        _short(luma), black * 8, _short(red), _short(blue), _short(-green_u), _short(-green_v)
    )


def _short(factor: int) -> int:
    """Times 8192, rounded from 1 / 65536 to a whole number."""
    return ((factor << 13) + ONE // 2) >> 16


def to_rgb(planes: Planes) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8: bit for bit what FFmpeg's rgb24 is. By NumPy, so slow: a check on those
    who are quicker.
    """
    height, width, _ = planes.shape
    values = planes.pixels.reshape(-1).astype(np.int32)
    luma, u, v = np.split(values, (height * width, height * width * 5 // 4))
    chroma = (height // 2, width // 2)
    made = mixed(
        luma.reshape(height, width),
        _doubled(u.reshape(chroma)),
        _doubled(v.reshape(chroma)),
        planes.factors,
    )
    return np.stack([np.clip(colour, 0, 255) for colour in made], axis=-1).astype(np.uint8)


def _doubled(chroma: NDArray[np.int32]) -> NDArray[np.int32]:
    return chroma.repeat(2, axis=0).repeat(2, axis=1)


def mixed(luma: Any, u: Any, v: Any, by: Factors) -> tuple[Any, Any, Any]:
    """Red, green, blue before they are cut to 0 to 255, of 32-bit whole numbers: NumPy's or
    torch's.
    """
    light, u, v = ((luma * 8 - by.black) * by.luma) >> 16, u * 8 - 1024, v * 8 - 1024
    green = ((u * by.green_u) >> 16) + ((v * by.green_v) >> 16)
    return light + ((v * by.red) >> 16), light + green, light + ((u * by.blue) >> 16)
