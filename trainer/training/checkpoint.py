"""Checkpoints: one safetensors file with every tensor, and a JSON header with everything else.

Nothing in it can be executed, and a file is published only when it is complete. Before the JSON
stands the sha256 of the whole file, taken with zeros in its own place: a flipped bit anywhere, in
tensors, names or header, is found before anything is used.
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
"""The format version that had no digest; still read, with a warning."""
_HEADER = "video-highlights"
_DIGEST = "sha256:"
_DIGITS = 64
MAX_HEADER_BYTES = 100_000_000
"""The largest header that safetensors allows."""
_DIGEST_PLACE = f'"{_HEADER}":"{_DIGEST}'.encode()
"""The bytes before the digest: safetensors writes its metadata first, and without blanks."""
_TENSOR = "__tensor__"
_PAIRS = "__pairs__"


@dataclass(frozen=True)
class Checkpoint:
    """A training run: `about` for people and checks, `state` to resume from."""

    about: Mapping[str, Any]
    """JSON: recipe, feature settings, users by split, notes, scores, provenance."""
    state: Mapping[str, Any]
    """Nested dicts and lists of tensors and plain values: `model`; in training also `updates`,
    `random`, `place`, `progress` and `losses`.
    """


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint under `path`; an older one is replaced when the new one is complete."""
    tensors: dict[str, Tensor] = {}
    state = _flatten(checkpoint.state, "", tensors)
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "about": checkpoint.about,
        "state": state,
    }
    # Sorted keys: the same content gives the same bytes and the same digest. NaN is allowed, since
    # a metric may be NaN.
    text = json.dumps(header, sort_keys=True, allow_nan=True)
    # The digest covers the file with zeros in its own place, then takes that place.
    content = bytearray(save(tensors, metadata={_HEADER: f"{_DIGEST}{'0' * _DIGITS} {text}"}))
    place = content.index(_DIGEST_PLACE) + len(_DIGEST_PLACE)
    content[place : place + _DIGITS] = hashlib.sha256(content).hexdigest().encode()
    publish(path, bytes(content), replace=True)


def read_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """The checkpoint as it was written, with its tensors on `device`.

    Raises LookupFailed if the file does not exist, IntegrityError if it is not a checkpoint of ours
    or was altered.
    """
    if not path.is_file():
        raise LookupFailed(f"no checkpoint {path}; train one with `python -m trainer fit`")
    content = path.read_bytes()
    try:
        header = _read_header(path, content)
        tensors = {name: tensor.to(device) for name, tensor in load(content).items()}
    except (SafetensorError, ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is not a checkpoint: {error}") from error
    for key in ("about", "state"):
        if not isinstance(header.get(key), dict):
            value = str(header.get(key))[:100]
            raise IntegrityError(path, f"is a checkpoint whose {key} is not a table but {value!r}")
    try:
        return Checkpoint(header["about"], _unflatten(header["state"], tensors))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(path, f"is a checkpoint without {error}") from error


def read_about(path: Path) -> Mapping[str, Any]:
    """The `about` of a checkpoint, without reading its tensors or checking its digest.

    Empty if it cannot be read: `read_checkpoint` then names what is wrong with the file.
    """
    with path.open("rb") as file:
        size = file.read(8)
        content = size + file.read(min(int.from_bytes(size, "little"), MAX_HEADER_BYTES))
    try:
        text, _ = _header_text(content)
        has_digest = text.startswith(_DIGEST)
        header = json.loads(text[len(_DIGEST) + _DIGITS :] if has_digest else text)
        about = header["about"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _read_header(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON beside the tensors, after the file's digest was checked.

    ValueError if this is not a safetensors file.
    """
    text, header_end = _header_text(content)
    has_digest = text.startswith(_DIGEST)
    if has_digest:
        _check_digest(path, content, header_end)
        text = text[len(_DIGEST) + _DIGITS :]
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise IntegrityError(path, "is a safetensors file, but none of ours")
    version = header.get("version")
    if version != (FORMAT_VERSION if has_digest else WITHOUT_DIGEST):
        raise IntegrityError(
            path, f"has format version {version!r}; this release reads {FORMAT_VERSION}"
        )
    if not has_digest:
        warnings.warn(
            f"{path} is of an earlier release and has no digest, so damage cannot be detected; "
            "train it again to get a digest",
            CheckpointWithoutDigest,
            stacklevel=3,
        )
    return header


def _header_text(content: bytes) -> tuple[str, int]:
    """Our text in the metadata of a safetensors file, "null" without it; the end of its header."""
    # A safetensors file starts with the length of its header, 8 bytes, little-endian.
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise ValueError(f"it has {len(content):,} bytes, and its header should have {size:,}")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    text = metadata.get(_HEADER, "null") if isinstance(metadata, dict) else "null"
    return str(text), 8 + size


def _check_digest(path: Path, content: bytes, header_end: int) -> None:
    place = content.find(_DIGEST_PLACE, 0, header_end) + len(_DIGEST_PLACE)
    if place < len(_DIGEST_PLACE):
        raise IntegrityError(path, "was altered: its digest is not where we write it")
    # The digest was taken with zeros in its own place.
    sha = hashlib.sha256(content[:place] + b"0" * _DIGITS)
    sha.update(memoryview(content)[place + _DIGITS :])
    if sha.hexdigest().encode() != content[place : place + _DIGITS]:
        raise IntegrityError(
            path,
            "was altered: its content does not match its sha256; restore it from a copy, or delete "
            "it and train again",
        )


class CheckpointWithoutDigest(UserWarning):
    """A checkpoint of an earlier release, whose content cannot be checked."""


def checkpoint_digest(path: Path) -> str:
    """sha256 of the file, which scores name as their origin."""
    return size_and_sha256(path)[1]


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value with each tensor replaced by its name; the tensors are added to `tensors`."""
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().to("cpu").contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        # JSON has only text as keys; an optimizer's state has numbers.
        pairs = []
        for key, item in value.items():
            item_name = f"{name}.{key}" if name else str(key)
            pairs.append([key, _flatten(item, item_name, tensors)])
        return {_PAIRS: pairs}
    if isinstance(value, list | tuple):
        return [_flatten(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        "a checkpoint holds tensors, texts, numbers, lists and dicts; "
        f"{name} is a {type(value).__name__}"
    )


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of `_flatten`."""
    if isinstance(value, list):
        return [_unflatten(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    return {key: _unflatten(item, tensors) for key, item in value[_PAIRS]}


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators, of this process and of the GPU it uses."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """Restore the generators to `random_state`."""
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu())
