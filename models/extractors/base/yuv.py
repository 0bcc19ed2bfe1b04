"""YUV pictures as video codecs store them, and FFmpeg's exact conversion to RGB.

Source: libswscale's yuv2rgb for x86 (`ff_yuv2rgb_c_init_tables`, `yuv_2_rgb.asm`): 16-bit products
of which the upper half is kept, each chroma value for its block of 2×2 pixels. These are whole
numbers, so any device gives the same bits. Other builds of FFmpeg may compute otherwise: the code
that makes `Planes` must check its own build. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRICES = {"601": (104597, 132201, 25675, 53279), "709": (117489, 138438, 13975, 34925)}
"""Standard → the share of V in red, U in blue, U in green and V in green, times 65536.

For a luma of 16 to 235. The two shares of green are subtracted.
"""
ONE = 1 << 16


@dataclass(frozen=True)
class ConversionFactors:
    """Factors of the conversion, in 16 bits."""

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
        """Shape of the RGB picture: (H, W, 3)."""
        rows, width = self.pixels.shape
        return (rows * 2 // 3, width, 3)

    @property
    def factors(self) -> ConversionFactors:
        """Conversion factors for this picture's matrix and range."""
        return conversion_factors(self.matrix, full_range=self.full_range)

    def copy(self) -> Planes:
        """The same picture in its own memory."""
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
    """Units of 1 / 65536 → units of 1 / 8192, rounded."""
    return ((factor << 13) + ONE // 2) >> 16


def to_rgb(planes: Planes) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8, bit-equal to FFmpeg's rgb24. Slow NumPy, to check faster conversions."""
    height, width, _ = planes.shape
    values = planes.pixels.reshape(-1).astype(np.int32)
    luma, u, v = np.split(values, (height * width, height * width * 5 // 4))
    chroma = (height // 2, width // 2)
    colours = yuv_to_rgb(
        luma.reshape(height, width),
        _double_chroma(u.reshape(chroma)),
        _double_chroma(v.reshape(chroma)),
        planes.factors,
    )
    return np.stack([np.clip(colour, 0, 255) for colour in colours], axis=-1).astype(np.uint8)


def _double_chroma(chroma: NDArray[np.int32]) -> NDArray[np.int32]:
    return chroma.repeat(2, axis=0).repeat(2, axis=1)


def yuv_to_rgb(luma: Any, u: Any, v: Any, factors: ConversionFactors) -> tuple[Any, Any, Any]:
    """Red, green and blue before they are clipped to 0 to 255.

    Takes and gives 32-bit whole numbers, arrays of NumPy or tensors of torch.
    """
    # Each shift keeps the upper half of one 16-bit product, as libswscale does. Adding the products
    # before the shift would round differently.
    light = ((luma * 8 - factors.black) * factors.luma) >> 16
    u, v = u * 8 - 1024, v * 8 - 1024
    red = (v * factors.red) >> 16
    green = ((u * factors.green_u) >> 16) + ((v * factors.green_v) >> 16)
    blue = (u * factors.blue) >> 16
    return light + red, light + green, light + blue
