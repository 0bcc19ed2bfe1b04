"""Small JSON records that carry the sha256 of their own content, so that not one changed bit goes
unseen.

A line for each key, and one for each item of an object below it, so that a person finds a video's
line and `diff` tells which one changed. Refuses to know what the records say.
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
_encoded = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


def seal(content: Mapping[str, JSON]) -> bytes:
    """The record as bytes. Equal content, equal bytes. TypeError for what is no JSON, ValueError
    for a number that is not finite, or for a key that the seal itself needs.
    """
    if _SHA256 in content:
        raise ValueError(f"{_SHA256!r} is the seal's own key")
    body = ",\n".join(_lines(content)).encode("ascii")
    return b'{\n%b,\n "sha256": "%b"\n}\n' % (body, hashlib.sha256(body).hexdigest().encode())


def unseal(path: Path, raw: bytes) -> dict[str, JSON]:
    """The content of a sealed record; `path` is what errors call it. Raises IntegrityError for any
    change at all.
    """
    try:
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise IntegrityError(path, "is no JSON object")
        content.pop(_SHA256, None)
        # Not the content alone: its spelling too must be ours, to the last byte.
        is_ours = raw == seal(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is no JSON record: {error}") from error
    if not is_ours:
        problem = "was changed after it was written, or is of an earlier release"
        raise IntegrityError(path, f"{problem}: its content is not what its own sha256 says")
    return content


def _lines(content: Mapping[str, JSON]) -> Iterator[str]:
    for key, value in sorted(content.items()):
        if isinstance(value, dict) and value:
            items = [
                f"  {encode_basestring_ascii(name)}: {_encoded(item)}"
                for name, item in sorted(value.items())
            ]
            yield f" {encode_basestring_ascii(key)}: {{\n" + ",\n".join(items) + "\n }"
        else:
            yield f" {encode_basestring_ascii(key)}: {_encoded(value)}"
