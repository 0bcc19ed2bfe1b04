"""Encodes and decodes the records that lie beside media files, as sealed JSON.

What a record says of its video is the pipeline's concern.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.files.checksummed_json import parse_json_object, seal, unseal

FORMAT = "video-highlights media record"
FORMAT_VERSION = 2
"""Version 1 was not sealed, and is the inner object alone; it is still read."""
_ADVICE = "Delete it, or run `python -m storage audit --repair`, and run again."


def encode_media_record(record: Mapping[str, JSON]) -> bytes:
    """A record as sealed bytes. Equal records, equal bytes."""
    return seal({"format": FORMAT, "format_version": FORMAT_VERSION, "record": dict(record)})


def decode_media_record(path: Path, raw: bytes) -> tuple[dict[str, JSON], bool]:
    """The record, and whether it was sealed; `path` is for error messages.

    Raises:
        IntegrityError: it was changed after it was written, or is of an unknown version.
    """
    try:
        content = parse_json_object(path, raw)
        # Version 1: the record itself, without a seal.
        if "asked" in content and "state" in content:
            return content, False
        content = unseal(path, raw)
    except IntegrityError as error:
        raise IntegrityError(path, f"is not a media record: {error.problem}. {_ADVICE}") from error
    record = content.get("record")
    version = (content.get("format"), content.get("format_version"))
    if version != (FORMAT, FORMAT_VERSION) or not isinstance(record, dict):
        raise IntegrityError(
            path,
            f"is not a media record of a version that this release reads, but {version}. {_ADVICE}",
        )
    return record, True
