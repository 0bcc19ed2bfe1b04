"""Small JSON records that carry the sha256 of their own content, so that not one changed bit goes unseen.

Refuses to know what the records say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from storage.errors import IntegrityError
from storage.fingerprint import canonical_json, readable_json
from storage.records import JSON


def seal(content: Mapping[str, JSON]) -> bytes:
    """The record as bytes, for a person and for `diff`. Equal content, equal bytes. TypeError for what is no JSON."""
    whole = dict(content)
    return readable_json({**whole, "sha256": _digest(whole)})


def unseal(path: Path, raw: bytes) -> dict[str, JSON]:
    """The content of a sealed record; `path` is what errors call it. Raises IntegrityError for any change at all."""
    try:
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise IntegrityError(path, "is no JSON object")
        # Blanks and key order are outside the digest, so the spelling must be ours to the last byte too.
        is_ours = raw == readable_json(content) and content.pop("sha256", None) == _digest(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is no JSON record: {error}") from error
    if not is_ours:
        raise IntegrityError(path, "was changed after it was written: its content is not what its own sha256 says")
    return content


def _digest(content: dict[str, JSON]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
