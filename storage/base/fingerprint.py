"""Settings → a short name for "the same settings"; ids → a digest for "the same ids". The only
definitions of both.

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

_LEAVES = frozenset({str, int, bool})
_FIELDS: dict[type, tuple[str, ...]] = {}
"""Names of each dataclass's fields, once they were asked for."""
DIGITS = 12
"""48 bits: among a thousand variants of one catalog, a clash has odds of 2 in a billion."""


def plain(value: object) -> JSON:
    """Dataclasses, enums, tuples and mappings as plain JSON values; raises TypeError for anything
    else.
    """
    kind = type(value)
    if value is None or kind in _LEAVES:
        return value  # type: ignore[return-value]  # most values are these, and what follows is slow
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"settings hold finite numbers only, got {value}")
        return value
    if isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(kind):
        if kind not in _FIELDS:
            _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(kind))
        return {name: plain(getattr(value, name)) for name in _FIELDS[kind]}
    raise TypeError(f"{kind.__name__} has no place in settings: {value!r}")


def canonical(value: object) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, ASCII."""
    spelled = json.dumps(
        plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return spelled.encode()


def readable(value: object) -> bytes:
    """JSON for a person and for `diff`: sorted keys, indented, ending in a newline. Equal values,
    equal bytes.
    """
    return f"{json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)}\n".encode()


def fingerprint(settings: object) -> str:
    """The first 12 hex digits of the sha256 of the canonical JSON of `settings`."""
    return hashlib.sha256(canonical(settings)).hexdigest()[:DIGITS]


def ids_sha256(ids: Iterable[str]) -> str:
    """sha256 over the sorted ids, each followed by a newline: what `sort ids.txt | sha256sum`
    prints under LC_ALL=C.
    """
    return hashlib.sha256("\n".join([*sorted(ids), ""]).encode()).hexdigest()


def differences(settings: Sequence[Mapping[str, JSON]]) -> list[str]:
    """For each of several settings, `name=value` of whatever is not the same in all; nested names
    are dotted.
    """
    flat = [dict(_flat("", dict(one))) for one in settings]
    names = sorted({name for one in flat for name in one})
    varying = [name for name in names if len({repr(one.get(name)) for one in flat}) > 1]
    return [", ".join(f"{name}={one.get(name)!r}" for name in varying) for one in flat]


def _flat(prefix: str, value: JSON) -> Iterator[tuple[str, JSON]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, item)
    else:
        yield prefix, value
