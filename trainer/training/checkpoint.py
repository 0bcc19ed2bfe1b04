"""Checkpoints: one safetensors file with every tensor, and in its header a JSON of everything else.

Nothing in it can be executed. Written whole or not at all. Before that JSON stands the sha256 of
the whole file, taken with zeros in its own place: so a flipped bit anywhere, in tensors, names or
header, is found before anything is used. Refuses to know networks and loops: states go in, states
come out.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from storage.base.errors import IntegrityError, LookupFailed
from storage.files.atomic_write import publish, size_and_sha256

FORMAT = "video-highlights checkpoint"
FORMAT_VERSION = 2
WITHOUT_DIGEST = 1
"""The version that had no digest; still read, with a warning."""
_HEADER = "video-highlights"
_DIGEST = "sha256:"
_DIGITS = 64
_DIGEST_PLACE = f'"{_HEADER}":"{_DIGEST}'.encode()
"""What stands before the digest in the file; safetensors writes its metadata first, and without
blanks.
"""
_TENSOR = "__tensor__"
_PAIRS = "__pairs__"


@dataclass(frozen=True)
class Checkpoint:
    """What a training run was, or is: `about` for people and checks, `state` to go on from."""

    about: Mapping[str, Any]
    """JSON: recipe, feature settings, users by split, notes, scores, provenance."""
    state: Mapping[str, Any]
    """Nested dicts and lists of tensors and plain values: `model`; in training also `optimizer`,
    `random`, `place`.
    """


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint under `path`, replacing an older one only when the new one is whole."""
    tensors: dict[str, Tensor] = {}
    state = _flatten(checkpoint.state, "", tensors)
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "about": checkpoint.about,
        "state": state,
    }
    text = json.dumps(header, sort_keys=True, allow_nan=True)
    content = bytearray(save(tensors, metadata={_HEADER: f"{_DIGEST}{'0' * _DIGITS} {text}"}))
    place = content.index(_DIGEST_PLACE) + len(_DIGEST_PLACE)
    content[place : place + _DIGITS] = hashlib.sha256(content).hexdigest().encode()
    publish(path, bytes(content), replace=True)


def read_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """What was written, its tensors on `device`.

    Raises LookupFailed if there is no such file, IntegrityError if it is no checkpoint of ours or
    was altered.
    """
    if not path.is_file():
        raise LookupFailed(f"no checkpoint {path}; train one with `python -m trainer fit`")
    raw = path.read_bytes()
    try:
        header = _read_header(path, raw)
        tensors = {name: tensor.to(device) for name, tensor in load(raw).items()}
    except (SafetensorError, ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is no checkpoint: {error}") from error
    if strange := [key for key in ("about", "state") if not isinstance(header.get(key), dict)]:
        raise IntegrityError(
            path, f"is a checkpoint whose {strange[0]} is {str(header.get(strange[0]))[:100]!r}"
        )
    try:
        return Checkpoint(header["about"], _unflatten(header["state"], tensors))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(path, f"is a checkpoint without {error}") from error


def _read_header(path: Path, raw: bytes) -> dict[str, Any]:
    """The JSON beside the tensors, once the file's digest is right. ValueError for what is no
    safetensors file.
    """
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or size > len(raw) - 8:
        raise ValueError(f"it has {len(raw):,} bytes, and its header should have {size:,}")
    found = json.loads(raw[8 : 8 + size])
    metadata = found.get("__metadata__") if isinstance(found, dict) else None
    text = str(metadata.get(_HEADER, "null")) if isinstance(metadata, dict) else "null"
    is_sealed = text.startswith(_DIGEST)
    if is_sealed:
        _check_digest(path, raw, 8 + size)
        text = text[len(_DIGEST) + _DIGITS :]
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise IntegrityError(path, "is a safetensors file, but none of ours")
    if (version := header.get("version")) != (FORMAT_VERSION if is_sealed else WITHOUT_DIGEST):
        raise IntegrityError(
            path, f"has format version {version!r}; this release reads {FORMAT_VERSION}"
        )
    if not is_sealed:
        told = "is of an earlier release and has no digest, so damage in it is not noticed; train it anew to have one"
        warnings.warn(f"{path} {told}", CheckpointWithoutDigest, stacklevel=3)
    return header


def _check_digest(path: Path, raw: bytes, end: int) -> None:
    place = raw.find(_DIGEST_PLACE, 0, end) + len(_DIGEST_PLACE)
    if place < len(_DIGEST_PLACE):
        raise IntegrityError(path, "was altered: its digest is not where we write it")
    sha = hashlib.sha256(raw[:place] + b"0" * _DIGITS)
    sha.update(memoryview(raw)[place + _DIGITS :])
    if sha.hexdigest().encode() != raw[place : place + _DIGITS]:
        advice = "take it from a copy, or delete it and train again"
        raise IntegrityError(
            path, f"was altered: its content is not what its own sha256 says; {advice}"
        )


class CheckpointWithoutDigest(UserWarning):
    """A checkpoint of an earlier release: nothing tells whether it is as it was written."""


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
                [key, _flatten(item, f"{name}.{key}" if name else str(key), tensors)]
                for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        return [_flatten(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"a checkpoint holds tensors, texts, numbers, lists and dicts; {name} is a {type(value).__name__}"
    )


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict) and _TENSOR in value:
        return tensors[value[_TENSOR]]
    if isinstance(value, dict):
        return {key: _unflatten(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_unflatten(item, tensors) for item in value]
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
