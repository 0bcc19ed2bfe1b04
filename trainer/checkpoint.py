"""Checkpoints: one safetensors file with every tensor, and in its header a JSON of everything else.

Nothing in it can be executed. Written whole or not at all. Refuses to know networks and loops: states go in, states
come out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from storage.atomic import publish, size_and_sha256
from storage.errors import IntegrityError, LookupFailed

FORMAT = "video-highlights checkpoint"
FORMAT_VERSION = 1
_HEADER = "video-highlights"
_TENSOR = "__tensor__"
_PAIRS = "__pairs__"


@dataclass(frozen=True)
class Checkpoint:
    """What a training run was, or is: `about` for people and checks, `state` to go on from."""

    about: Mapping[str, Any]
    """JSON: recipe, feature settings, users by split, notes, scores, provenance."""
    state: Mapping[str, Any]
    """Nested dicts and lists of tensors and plain values: `model`; in training also `optimizer`, `random`, `place`."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint under `path`, replacing an older one only when the new one is whole."""
    tensors: dict[str, Tensor] = {}
    state = _flatten(checkpoint.state, "", tensors)
    header = {"format": FORMAT, "version": FORMAT_VERSION, "about": checkpoint.about, "state": state}
    content = save(tensors, metadata={_HEADER: json.dumps(header, sort_keys=True, allow_nan=True)})
    publish(path, content, replace=True)


def read_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """What was written, its tensors on `device`.

    Raises LookupFailed if there is no such file, IntegrityError if it is no checkpoint of ours.
    """
    if not path.is_file():
        raise LookupFailed(f"no checkpoint {path}; train one with `python -m trainer fit`")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError) as error:
        raise IntegrityError(path, f"is no checkpoint: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise IntegrityError(path, "is a safetensors file, but none of ours")
    if header.get("version") != FORMAT_VERSION:
        raise IntegrityError(path, f"has format version {header.get('version')!r}; this release reads {FORMAT_VERSION}")
    try:
        return Checkpoint(header["about"], _restored(header["state"], tensors))
    except (KeyError, TypeError) as error:
        raise IntegrityError(path, f"is a checkpoint without {error}") from error


def checkpoint_digest(path: Path) -> str:
    """sha256 of the file: what scores name as their origin."""
    return size_and_sha256(path)[1]


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value with each tensor replaced by its name, the tensor itself put aside."""
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().to("cpu").contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        # JSON has only text as keys; an optimizer's state has numbers.
        return {
            _PAIRS: [
                [key, _flatten(item, f"{name}.{key}" if name else str(key), tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        return [_flatten(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds tensors, texts, numbers, lists and dicts; {name} is a {type(value).__name__}")


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict) and _TENSOR in value:
        return tensors[value[_TENSOR]]
    if isinstance(value, dict):
        return {key: _restored(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    return value


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators, of this process and of the GPU it uses."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """Go on with random numbers where `random_state` was taken."""
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu())
