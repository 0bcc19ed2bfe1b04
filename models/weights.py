"""State dicts from files, without executing anything that is inside a file.

Knows tensors by name and shape. Refuses to know where files come from, and every format that needs code to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def load_state_dict(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A plain state dict from `path`, float32 on the CPU: exactly the names and shapes of `expected`, or ValueError.

    Only tensors are read (`weights_only`); a file that needs anything else is refused, and there is no other way in.
    """
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a state dict: tensor names to tensors")
    differences = _differences({name: tuple(tensor.shape) for name, tensor in loaded.items()}, expected)
    if differences:
        raise ValueError(f"{path} does not fit this network:\n  " + "\n  ".join(differences))
    return {name: loaded[name].float() for name in expected}


def _differences(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    missing = [f"{name} {shape} is missing" for name, shape in expected.items() if name not in found]
    extra = [f"{name} {shape} is not part of the network" for name, shape in found.items() if name not in expected]
    other = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    return missing + extra + other
