"""The short name of equal settings (a fingerprint), and the digest of equal ids.

A fingerprint is the start of the sha256 of the settings' canonical JSON. Everything that shapes the
bytes of a feature goes in; everything else (library versions, device, workers) stays out and is
recorded as provenance instead.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum

from storage.base.records import JSON

_JSON_TYPES = frozenset({str, int, bool})
# `dataclasses.fields` is slow, and a run converts thousands of records of the same classes.
_FIELD_NAMES: dict[type, tuple[str, ...]] = {}
"""Names of each dataclass's fields; filled when a class is first converted."""
DIGITS = 12
"""48 bits: among a thousand variants of one catalog, a clash has odds of 2 in a billion."""


def to_json_value(value: object) -> JSON:
    """Dataclasses, enums, tuples and mappings as plain JSON values.

    Raises:
        TypeError: the value is of any other type.
        ValueError: a float is NaN or infinite.
    """
    # Most values are of these types, and every isinstance check below is slower.
    if value is None or type(value) in _JSON_TYPES:
        return value  # type: ignore[return-value]
    # Before str and int: a StrEnum is a str as well.
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"settings hold finite numbers only, got {value}")
        return value
    if isinstance(value, str | int):
        return value
    return _container_to_json(value)


def _container_to_json(value: object) -> JSON:
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    kind = type(value)
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"settings cannot hold a {kind.__name__}: {value!r}")
    content: dict[str, JSON] = {}
    for name in _field_names(kind):
        content[name] = to_json_value(getattr(value, name))
    return content


def _field_names(kind: type) -> tuple[str, ...]:
    if kind not in _FIELD_NAMES:
        _FIELD_NAMES[kind] = tuple(field.name for field in dataclasses.fields(kind))
    return _FIELD_NAMES[kind]


def canonical_json(value: object) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, ASCII."""
    text = json.dumps(
        to_json_value(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    )
    return text.encode()


def readable_json(value: object) -> bytes:
    """Indented JSON with sorted keys and a final newline. Equal values, equal bytes."""
    text = json.dumps(
        to_json_value(value), sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False
    )
    return f"{text}\n".encode()


def fingerprint(settings: object) -> str:
    """The first 12 hex digits of the sha256 of the canonical JSON of `settings`."""
    # Changing one byte of the canonical JSON would orphan every store on disk.
    return hashlib.sha256(canonical_json(settings)).hexdigest()[:DIGITS]


def ids_sha256(ids: Iterable[str]) -> str:
    """sha256 over the sorted ids, each followed by a newline.

    `sort ids.txt | sha256sum` prints the same under LC_ALL=C.
    """
    return hashlib.sha256("\n".join([*sorted(ids), ""]).encode()).hexdigest()


def differing_settings(settings: Sequence[Mapping[str, JSON]]) -> list[str]:
    """For each of several settings, `name=value` of every setting that is not the same in all.

    Nested names are dotted; a name that one of them lacks has the value None.
    """
    flat_settings = [dict(_flatten("", dict(nested))) for nested in settings]
    names = sorted(set().union(*flat_settings))
    differing = [name for name in names if _differs(name, flat_settings)]
    return [_format_settings(flat, differing) for flat in flat_settings]


def _format_settings(flat: Mapping[str, JSON], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={flat.get(name)!r}" for name in names)


def _differs(name: str, flat_settings: Sequence[Mapping[str, JSON]]) -> bool:
    # By repr, because values may be lists, and because 1, 1.0 and True are equal in Python.
    values = {repr(flat.get(name)) for flat in flat_settings}
    return len(values) > 1


def _flatten(prefix: str, value: JSON) -> Iterator[tuple[str, JSON]]:
    """`{"a": {"b": 1}}` as `("a.b", 1)`."""
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else key
        yield from _flatten(name, item)
