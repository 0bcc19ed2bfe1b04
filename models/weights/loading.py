"""Named tensors from files, checked against what a network needs, without executing anything that
is inside a file.

Knows tensors by name and shape. Refuses to know where files come from. The pipeline hands over
converted files only; an official one that a person names directly goes through the same inert
reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.weights.file_formats import read_checkpoint
from models.weights.safe_unpickler import InvalidCheckpoint
from models.weights.state_dict import DTYPES, StoredTensor

Rename = Callable[[str], str | None]
"""Published tensor name → the network's, or None for a tensor the network has no place for."""

_TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
WRAPPERS = ("module.", "_orig_mod.")
"""Put before every name by torch's data parallel wrappers and by `torch.compile`."""
_SHOWN = 12
"""Differences of a kind that are listed before the rest is counted."""


def keep_name(name: str) -> str:
    """The renaming that changes nothing."""
    return name


def load_matching_tensors(
    path: Path, expected: Mapping[str, tuple[int, ...]], rename: Rename = keep_name
) -> dict[str, Tensor]:
    """The tensors of `path` under the network's names: floating ones as float32, others as they
    are, on the CPU.

    ValueError with a list of differences unless, renamed, they are exactly the names and shapes of
    `expected`.
    """
    return match_tensors(path, read_tensors(path), expected, rename)


def match_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    rename: Rename = keep_name,
) -> dict[str, Tensor]:
    """The same for tensors that were read from `path` before."""
    tensors = _renamed(path, tensors, rename)
    differences = _differences(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}, expected
    )
    if differences:
        raise ValueError(f"{path} does not fit this network:\n  " + "\n  ".join(differences))
    ordered = {name: tensors[name] for name in expected}
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in ordered.items()
    }


def load_state_dict(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of `path`, which must have exactly the names and shapes of `expected`, or
    ValueError.
    """
    return load_matching_tensors(path, expected)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, without what wrappers put before all names.

    ValueError if it holds more than tensors, or is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            return _unwrapped(load_file(path))
        with path.open("rb") as file:
            return _unwrapped(
                {name: to_tensor(stored) for name, stored in read_checkpoint(file).tensors.items()}
            )
    except (InvalidCheckpoint, SafetensorError) as error:
        raise ValueError(f"{path} is refused, nothing in it was run: {error}") from error


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`module.module.a` → `a`, as long as every name begins with the same wrapper."""
    while wrapper := next(
        (one for one in WRAPPERS if all(name.startswith(one) for name in tensors)), ""
    ):
        if not tensors:
            break
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def to_tensor(stored: StoredTensor) -> Tensor:
    """The same numbers as a tensor of their own dtype."""
    if not stored.data:
        return torch.empty(stored.shape, dtype=_TORCH[stored.dtype])
    if len(stored.data) % DTYPES[stored.dtype].itemsize:
        raise ValueError(f"{len(stored.data)} bytes are no whole number of {stored.dtype}")
    return torch.frombuffer(bytearray(stored.data), dtype=_TORCH[stored.dtype]).reshape(
        stored.shape
    )


def _renamed(path: Path, tensors: Mapping[str, Tensor], rename: Rename) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = rename(name)
        if ours is None:
            continue
        if ours in renamed:
            raise ValueError(f"{path} has two tensors for {ours}, one of them {name}")
        renamed[ours] = tensor
    return renamed


def _differences(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    if found and expected and not found.keys() & expected.keys():
        ours, theirs = next(iter(expected.items())), next(iter(found.items()))
        return [
            f"not one of its {len(found)} names is among the {len(expected)} of the network; it begins with "
            f"{theirs[0]} {theirs[1]}, the network with {ours[0]} {ours[1]}"
        ]
    missing = [
        f"{name} {shape} is missing" for name, shape in expected.items() if name not in found
    ]
    extra = [
        f"{name} {shape} is not part of the network"
        for name, shape in found.items()
        if name not in expected
    ]
    other = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    return [line for kind in (missing, extra, other) for line in _shortened(kind)]


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"... and {more} more like this"] if more > 1 else lines
