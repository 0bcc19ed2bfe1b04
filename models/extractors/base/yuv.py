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
class ConversionFactors:
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
    def factors(self) -> ConversionFactors:
        """For this picture's matrix and range."""
        return conversion_factors(self.matrix, full_range=self.full_range)

    def copy(self) -> Planes:
        """In memory of its own."""
        return Planes(self.pixels.copy(), self.matrix, self.full_range)


def conversion_factors(matrix: str, *, full_range: bool) -> ConversionFactors:
    """As libswscale rounds them. KeyError for a matrix that is not in `MATRICES`."""
    luma, black = (ONE, 0) if full_range else (ONE * 255 // 219, 16)
    chroma = MATRICES[matrix]
    if full_range:
        red, blue, green_u, green_v = (part * 224 // 255 for part in chroma)
    else:
        red, blue, green_u, green_v = chroma
    return ConversionFactors(
        luma=_to_int16_scale(luma),
        black=black * 8,
        red=_to_int16_scale(red),
        blue=_to_int16_scale(blue),
        green_u=_to_int16_scale(-green_u),
        green_v=_to_int16_scale(-green_v),
    )


def _to_int16_scale(factor: int) -> int:
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
    made = yuv_to_rgb(
        luma.reshape(height, width),
        _double_chroma(u.reshape(chroma)),
        _double_chroma(v.reshape(chroma)),
        planes.factors,
    )
    return np.stack([np.clip(colour, 0, 255) for colour in made], axis=-1).astype(np.uint8)


def _double_chroma(chroma: NDArray[np.int32]) -> NDArray[np.int32]:
    return chroma.repeat(2, axis=0).repeat(2, axis=1)


def yuv_to_rgb(luma: Any, u: Any, v: Any, by: ConversionFactors) -> tuple[Any, Any, Any]:
    """Red, green, blue before they are cut to 0 to 255, of 32-bit whole numbers: NumPy's or
    torch's.
    """
    light, u, v = ((luma * 8 - by.black) * by.luma) >> 16, u * 8 - 1024, v * 8 - 1024
    green = ((u * by.green_u) >> 16) + ((v * by.green_v) >> 16)
    return light + ((v * by.red) >> 16), light + green, light + ((u * by.blue) >> 16)
