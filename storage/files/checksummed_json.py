"""JSON records that carry the sha256 of their own content, so every changed bit is noticed.

A record has a line for each key, and one for each item of an object below it: a person finds the
line of one video, and `diff` shows which one changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.records import JSON

_SHA256 = "sha256"
_encode_value = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


def seal(content: Mapping[str, JSON]) -> bytes:
    """The record as bytes. Equal content, equal bytes.

    Raises:
        TypeError: the content is not JSON.
        ValueError: a number is not finite, or a key is `sha256`.
    """
    if _SHA256 in content:
        raise ValueError(f"the key {_SHA256!r} is reserved for the seal")
    body = ",\n".join(_lines(content)).encode("ascii")
    # Over the lines, not over a second encoding: sealing is half as expensive so.
    return b'{\n%b,\n "sha256": "%b"\n}\n' % (body, hashlib.sha256(body).hexdigest().encode())


def unseal(path: Path, raw: bytes) -> dict[str, JSON]:
    """The content of a sealed record; `path` is for error messages.

    Raises:
        IntegrityError: the bytes are not, to the last one, what `seal` makes of their content.
    """
    content = parse_json_object(path, raw)
    content.pop(_SHA256, None)
    try:
        # Compares the bytes, not only the content: the spelling must be ours too.
        is_unchanged = raw == seal(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is not a JSON record: {error}") from error
    if not is_unchanged:
        raise IntegrityError(
            path,
            "was changed after it was written, or is of an earlier release: its content is not "
            "what its own sha256 says",
        )
    return content


def read_sealed(path: Path) -> dict[str, JSON]:
    """The content of a sealed record on disk. Raises IntegrityError, and OSError as it comes."""
    return unseal(path, path.read_bytes())


def parse_json_object(path: Path, raw: bytes) -> dict[str, JSON]:
    """The JSON object in `raw`; `path` is for error messages. Raises IntegrityError."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        # Deeply nested lists make the parser recurse: damage, not a bug of ours.
        raise IntegrityError(path, f"is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise IntegrityError(path, "is not a JSON object")
    return content


def _lines(content: Mapping[str, JSON]) -> Iterator[str]:
    for key, value in sorted(content.items()):
        name = encode_basestring_ascii(key)
        if isinstance(value, dict) and value:
            items = ",\n".join(_item_lines(value))
            yield f" {name}: {{\n{items}\n }}"
        else:
            yield f" {name}: {_encode_value(value)}"


def _item_lines(value: Mapping[str, JSON]) -> Iterator[str]:
    for name, item in sorted(value.items()):
        yield f"  {encode_basestring_ascii(name)}: {_encode_value(item)}"
