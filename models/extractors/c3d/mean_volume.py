"""Reads C3D's mean volume: Caffe's `.binaryproto`, or `.npy` as Video2GIF republished it.

Reads plain numbers, nothing that could be executed.
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
"""Field number of the protobuf message BlobProto → its name."""
_DATA = 6
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def load_mean(path: Path) -> NDArray[np.float32]:
    """`(3, 16, 128, 171)` float32: BGR, 0 to 255. ValueError for a file with other contents."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; a mean volume has {4 * np.prod(SHAPE)}")
    volume = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _read_blob(path)
    if volume.shape[:1] == (1,):
        volume = volume[0]
    is_mean = volume.shape == SHAPE and volume.dtype.kind == "f"
    if not is_mean or not np.isfinite(volume).all():
        raise ValueError(
            f"{path} holds {volume.dtype} {volume.shape}, expected finite floats of shape {SHAPE}"
        )
    return np.ascontiguousarray(volume, dtype=np.float32)


def _read_blob(path: Path) -> NDArray[np.float32]:
    """The `data` of one BlobProto of the C3D fork of Caffe.

    Its shape is the blob's own: (num, channels, length, height, width).
    """
    dimensions = dict.fromkeys(_DIMENSIONS.values(), 0)
    data = [np.empty(0, "<f4")]
    try:
        for field, value in _fields(path.read_bytes()):
            if field in _DIMENSIONS and isinstance(value, int):
                dimensions[_DIMENSIONS[field]] = value
            elif field == _DATA and isinstance(value, bytes):
                data.append(np.frombuffer(value, "<f4"))
        return np.concatenate(data).reshape(list(dimensions.values())).astype(np.float32)
    except (ValueError, IndexError) as error:
        found = ", ".join(f"{name} {size}" for name, size in dimensions.items())
        raise ValueError(
            f"{path} is not a BlobProto of a mean volume ({found}): {error}"
        ) from error


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of each field of a protobuf message; floats stay bytes."""
    position = 0
    while position < len(message):
        # A key holds the field number, and in its lowest three bits the wire type.
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield field, value
            continue
        length, position = _length_of(wire_type, message, position)
        left = len(message) - position
        if length > left:
            raise ValueError(f"{length} bytes promised at byte {position}, {left} are left")
        yield field, message[position : position + length]
        position += length


def _length_of(wire_type: int, message: bytes, position: int) -> tuple[int, int]:
    """How many bytes the value has, and where it starts."""
    if wire_type == _BYTES:
        return _varint(message, position)
    if wire_type == _FIXED32:
        return 4, position
    if wire_type == _FIXED64:
        return 8, position
    raise ValueError(f"unknown wire type {wire_type} at byte {position}")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The number that starts at byte `position`, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return number, position
    raise ValueError(f"a number of more than 64 bits at byte {position}")
