"""Max pooling of clips on a CPU: the bits of torch's `max_pool3d`, several times faster.

torch's kernel compares one number at a time, visits all of a window's places for each output, and
always keeps the place of each maximum. The maximum of a box is the maximum of its rows, then of its
columns, then of its frames, so here three one-dimensional maxima follow each other, each with
vector instructions.

The order of comparisons can be seen in one number only: of +0.0 and -0.0, which are equal, torch
keeps the first. A map that holds -0.0 is therefore left to torch. NaN gives NaN in both, though
its spare bits may differ.

Letters: N maps (clips times channels), T frames, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.extractors.base.in_place import computes_on_cpu_without_gradient

Triple = tuple[int, int, int]
"""Frames, rows, columns."""
Pair = tuple[int, int]
"""Rows, columns."""

BLOCK_BYTES = 1 << 22
"""So much of the input is pooled at a time, which then stays in a core's cache."""
_BITS = {
    torch.float32: torch.int32,
    torch.float64: torch.int64,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
"""Floating-point type → the whole numbers of its width. The bits of -0.0 are the least of them."""


def max_pool3d(
    x: Tensor,
    kernel: Triple,
    *,
    stride: Triple | None = None,
    padding: Triple = (0, 0, 0),
    ceil_mode: bool = False,
) -> Tensor:
    """`functional.max_pool3d` of `(B, C, T, H, W)`, to the bit; `stride` is `kernel` by default.

    The same operator is called for tensors on a GPU, for a gradient, for other memory layouts than
    the contiguous one, and for arguments that torch refuses.
    """
    step = stride or kernel
    axes = [
        _Axis.of(*numbers, ceil_mode=ceil_mode)
        for numbers in zip(x.shape[2:], kernel, step, padding, strict=True)
    ]
    if not (_is_supported(x) and all(axis.is_valid() for axis in axes)) or _has_minus_zero(x):
        return functional.max_pool3d(x, kernel, step, padding, ceil_mode=ceil_mode)
    maps = x.flatten(0, 1)
    pooled = x.new_empty(len(maps), *(axis.outputs for axis in axes))
    maps_in_block = max(BLOCK_BYTES // (maps[0].numel() * x.element_size()), 1)
    for start in range(0, len(maps), maps_in_block):
        block = slice(start, start + maps_in_block)
        pooled[block] = _pool_block(maps[block], axes)
    return pooled.view(*x.shape[:2], *pooled.shape[1:])


def max_pool2d(x: Tensor, kernel: Pair, *, stride: Pair, padding: Pair) -> Tensor:
    """`functional.max_pool2d` of `(B, C, H, W)`, to the bit; see `max_pool3d`."""
    if not _is_supported(x[:, :, None]):
        return functional.max_pool2d(x, kernel, stride, padding)
    frames = x[:, :, None]
    pooled = max_pool3d(frames, (1, *kernel), stride=(1, *stride), padding=(0, *padding))
    return pooled[:, :, 0]


@dataclass(frozen=True)
class _Axis:
    """One-dimensional pooling of `size` numbers into `outputs`."""

    size: int
    kernel: int
    stride: int
    padding: int
    ceil_mode: bool
    outputs: int

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, padding: int, *, ceil_mode: bool) -> _Axis:
        """With the number of outputs as torch counts them."""
        rounding = stride - 1 if ceil_mode else 0
        outputs = (size + 2 * padding - kernel + rounding) // max(stride, 1) + 1
        # The last window must start within the numbers or the padding before them.
        if ceil_mode and (outputs - 1) * stride >= size + padding:
            outputs -= 1
        return cls(size, kernel, stride, padding, ceil_mode, outputs)

    def is_valid(self) -> bool:
        """Whether torch accepts it; then each window has a number of its own."""
        is_positive = min(self.size, self.kernel, self.stride, self.outputs) > 0
        return is_positive and 0 <= 2 * self.padding <= self.kernel

    def changes_nothing(self) -> bool:
        return self.kernel == self.stride == 1

    def places(self) -> list[_Place]:
        """The places of a window, first one that no window has in the padding, if there is one."""
        every = [self._place(offset) for offset in range(self.kernel)]
        used = [place for place in every if place.first < place.end]
        return sorted(used, key=lambda place: place.end - place.first < self.outputs)

    def _place(self, offset: int) -> _Place:
        start = offset - self.padding
        first = max(0, -(start // self.stride))
        end = min(self.outputs, (self.size - 1 - start) // self.stride + 1)
        return _Place(first, end, start, self.stride)


@dataclass(frozen=True)
class _Place:
    """One place of the windows `first` to `end`; in others it lies in the padding."""

    first: int
    end: int
    start: int
    """The position of this place in window 0; negative in the padding."""
    stride: int

    def inputs(self, first: int, end: int) -> slice:
        """The positions of this place in windows `first` to `end`, at least one of them."""
        begin = self.start + first * self.stride
        return slice(begin, begin + (end - first - 1) * self.stride + 1, self.stride)


def _is_supported(x: Tensor) -> bool:
    is_map = x.ndim == 5 and x.numel() > 0 and x.dtype in _BITS
    return is_map and x.is_contiguous() and computes_on_cpu_without_gradient(x)


def _has_minus_zero(x: Tensor) -> bool:
    bits = _BITS[x.dtype]
    return int(x.view(bits).amin()) == torch.iinfo(bits).min


def _pool_block(block: Tensor, axes: Sequence[_Axis]) -> Tensor:
    """`(N, T, H, W)` → `(N, t, h, w)`."""
    frames, rows, columns = axes
    if not columns.changes_nothing():
        pooled = functional.max_pool1d(
            block.flatten(0, 2),
            columns.kernel,
            columns.stride,
            columns.padding,
            ceil_mode=columns.ceil_mode,
        )
        block = pooled.view(*block.shape[:3], columns.outputs)
    return _pool_axis(_pool_axis(block, 2, rows), 1, frames)


def _pool_axis(x: Tensor, dimension: int, axis: _Axis) -> Tensor:
    """Pool T or H of `(N, T, H, W)`. W is next to each other in memory, which would be slow."""
    if axis.changes_nothing():
        return x
    shape = list(x.shape)
    shape[dimension] = axis.outputs
    out = x.new_empty(shape)
    places = axis.places()
    if len(places) > 1 and places[0].end - places[0].first == axis.outputs:
        _start_with_two(out, x, dimension, places[0], places[1])
        places = places[2:]
    else:
        out.fill_(-math.inf)
    for place in places:
        so_far = _part(out, dimension, slice(place.first, place.end))
        inputs = _part(x, dimension, place.inputs(place.first, place.end))
        torch.maximum(so_far, inputs, out=so_far)
    return out


def _start_with_two(out: Tensor, x: Tensor, dimension: int, whole: _Place, other: _Place) -> None:
    """Fill `out` with the maximum of two places, the first of which all windows have."""
    for first, end in ((0, other.first), (other.end, out.shape[dimension])):
        if first < end:
            edge = _part(out, dimension, slice(first, end))
            edge.copy_(_part(x, dimension, whole.inputs(first, end)))
    torch.maximum(
        _part(x, dimension, whole.inputs(other.first, other.end)),
        _part(x, dimension, other.inputs(other.first, other.end)),
        out=_part(out, dimension, slice(other.first, other.end)),
    )


def _part(x: Tensor, dimension: int, part: slice) -> Tensor:
    return x[(*[slice(None)] * dimension, part)]
