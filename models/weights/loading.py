"""Loads named tensors from files and checks their names and shapes against a network.

Nothing inside a file is executed. The pipeline passes converted files only; an official file that a
user names directly goes through the same safe reader.
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
"""Published tensor name → the network's, or None for a tensor that the network does not have."""

_TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of every name, from torch's data parallel wrappers and from `torch.compile`."""
_SHOWN = 12
"""How many differences of a kind are listed; the rest is counted."""


def keep_name(name: str) -> str:
    """The `Rename` that changes nothing."""
    return name


def load_matching_tensors(
    path: Path, expected: Mapping[str, tuple[int, ...]], rename: Rename = keep_name
) -> dict[str, Tensor]:
    """The tensors of `path` under the network's names, on the CPU, floating ones as float32.

    ValueError lists the differences unless the renamed tensors have exactly the names and shapes of
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
    renamed = _rename_all(path, tensors, rename)
    shapes = {name: tuple(tensor.shape) for name, tensor in renamed.items()}
    differences = _differences(shapes, expected)
    if differences:
        raise ValueError(f"{path} does not fit this network:\n  " + "\n  ".join(differences))
    # In the network's order, so that equal tensors give an equal state dict.
    matched = {}
    for name in expected:
        tensor = renamed[name]
        matched[name] = tensor.float() if tensor.is_floating_point() else tensor
    return matched


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, without the prefixes of wrappers.

    ValueError if it holds anything other than tensors, or is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            return _without_prefixes(load_file(path))
        with path.open("rb") as file:
            stored = read_checkpoint(file).tensors
        return _without_prefixes({name: to_tensor(tensor) for name, tensor in stored.items()})
    except (InvalidCheckpoint, SafetensorError) as error:
        raise ValueError(f"{path} is refused, nothing in it was run: {error}") from error


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`module.module.a` → `a`, as long as every name has the same prefix."""
    if not tensors:
        return tensors
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            # Again, because wrappers are nested.
            return _without_prefixes(
                {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            )
    return tensors


def to_tensor(stored: StoredTensor) -> Tensor:
    """The same numbers as a tensor of their own dtype."""
    if not stored.data:
        return torch.empty(stored.shape, dtype=_TORCH[stored.dtype])
    if len(stored.data) % DTYPES[stored.dtype].itemsize:
        raise ValueError(f"{len(stored.data)} bytes are not a whole number of {stored.dtype}")
    # A copy, because bytes are read-only and tensors are not.
    flat = torch.frombuffer(bytearray(stored.data), dtype=_TORCH[stored.dtype])
    return flat.reshape(stored.shape)


def _rename_all(path: Path, tensors: Mapping[str, Tensor], rename: Rename) -> dict[str, Tensor]:
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
    """A line for each tensor that is missing, unknown or of another shape; long lists are cut."""
    if found and expected and not found.keys() & expected.keys():
        return [_nothing_in_common(found, expected)]
    missing, unknown, reshaped = [], [], []
    for name, shape in expected.items():
        if name not in found:
            missing.append(f"{name} {shape} is missing")
        elif found[name] != shape:
            reshaped.append(f"{name} is {found[name]}, expected {shape}")
    for name, shape in found.items():
        if name not in expected:
            unknown.append(f"{name} {shape} is not part of the network")
    return [*_shortened(missing), *_shortened(unknown), *_shortened(reshaped)]


def _nothing_in_common(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> str:
    first_found, found_shape = next(iter(found.items()))
    first_expected, expected_shape = next(iter(expected.items()))
    return (
        f"none of its {len(found)} names is among the {len(expected)} of the network; its first is "
        f"{first_found} {found_shape}, the network's first is {first_expected} {expected_shape}"
    )


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    if more <= 1:
        return lines
    return [*lines[:_SHOWN], f"... and {more} more like this"]
