"""The mean volume of C3D from a file: Caffe's `.binaryproto`, or `.npy` as Video2GIF republished
it.

Reads plain numbers, nothing that could be executed. Refuses to know networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHAPE = (3, 16, 128, 171)
"""Channels in BGR order, frames, height, width."""
MAX_BYTES = 32 * 1024 * 1024
"""The published files have 4.2 MB; in float64 it would be 8.4 MB."""

_DIMENSIONS = {1: "num", 2: "channels", 3: "length", 4: "height", 5: "width"}
_DATA = 6
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def load_mean(path: Path) -> NDArray[np.float32]:
    """`(3, 16, 128, 171)` float32: BGR, 0 to 255. ValueError says what a file holds instead."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; a mean volume has {4 * np.prod(SHAPE)}")
    volume = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _read_blob(path)
    if volume.shape[:1] == (1,):
        volume = volume[0]
    if volume.shape != SHAPE or volume.dtype.kind != "f" or not np.isfinite(volume).all():
        raise ValueError(
            f"{path} holds {volume.dtype} {volume.shape}, expected finite floats of shape {SHAPE}"
        )
    return np.ascontiguousarray(volume, dtype=np.float32)


def _read_blob(path: Path) -> NDArray[np.float32]:
    """The `data` of one BlobProto of the C3D fork of Caffe, in its own shape (num, channels,
    length, height, width).
    """
    dimensions, data = dict.fromkeys(_DIMENSIONS, 0), []
    try:
        for field, value in _fields(path.read_bytes()):
            if field in _DIMENSIONS and isinstance(value, int):
                dimensions[field] = value
            elif field == _DATA and isinstance(value, bytes):
                data.append(np.frombuffer(value, "<f4"))
        numbers = np.concatenate([np.empty(0, "<f4"), *data])
        return numbers.reshape([dimensions[field] for field in sorted(dimensions)]).astype(
            np.float32
        )
    except (ValueError, IndexError) as error:
        named = ", ".join(
            f"{_DIMENSIONS[field]} {dimensions[field]}" for field in sorted(dimensions)
        )
        raise ValueError(f"{path} is no BlobProto of a mean volume ({named}): {error}") from error


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of each field of a protobuf message; floats stay the bytes they
    are.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + length > len(message):
            raise ValueError(f"{length} bytes promised at byte {at}, {len(message) - at} are left")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that starts at byte `at`, and where the next thing starts."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
    raise ValueError(f"a number of more than 64 bits at byte {at}")
