"""The records that lie beside media files, as sealed JSON.

Refuses to know sources, and what a record says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.files.checksummed_json import seal, unseal

FORMAT = "video-highlights media record"
FORMAT_VERSION = 2
"""Version 1 was not sealed, and is the inner object alone; it is still read."""


def encode_media_record(record: Mapping[str, JSON]) -> bytes:
    """A record as sealed bytes. Equal records, equal bytes."""
    return seal({"format": FORMAT, "format_version": FORMAT_VERSION, "record": dict(record)})


def decode_media_record(path: Path, raw: bytes) -> tuple[dict[str, JSON], bool]:
    """The record, and whether it was sealed. Raises IntegrityError for one that was altered; `path`
    is for errors.
    """
    advice = "Delete it, or run `python -m storage audit --repair`, and run again."
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is not JSON ({error}). {advice}") from error
    if isinstance(content, dict) and "asked" in content and "state" in content:
        return content, False
    try:
        content = unseal(path, raw)
    except IntegrityError as error:
        raise IntegrityError(path, f"is no media record: {error.problem}. {advice}") from error
    record = content.get("record")
    found = (content.get("format"), content.get("format_version"))
    if found != (FORMAT, FORMAT_VERSION) or not isinstance(record, dict):
        raise IntegrityError(
            path, f"is no media record of a version that this release reads, but {found}. {advice}"
        )
    return record, True
