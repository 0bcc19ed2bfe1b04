from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum

import pytest

from storage.base.fingerprint import canonical_json, fingerprint, readable_json, to_json_value


class Colour(Enum):
    RGB = "rgb"


@dataclass(frozen=True)
class Settings:
    size: tuple[int, int] = (112, 112)
    colour: Colour = Colour.RGB
    rate: float = 2.0


def test_the_fingerprint_is_the_start_of_the_sha256_of_canonical_json() -> None:
    spelled = b'{"colour":"rgb","rate":2.0,"size":[112,112]}'
    assert canonical_json(Settings()) == spelled
    assert fingerprint(Settings()) == hashlib.sha256(spelled).hexdigest()[:12]


def test_only_content_counts_and_all_of_it() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(Settings()) == fingerprint(json.loads(readable_json(Settings())))
    others = [
        Settings(size=(112, 113)),
        Settings(rate=2.5),
        {"rate": 2},
        {"rate": "2"},
        {"rate": True},
        {"rate": None},
    ]
    assert len({fingerprint(other) for other in [Settings(), *others]}) == 1 + len(others)


def test_readable_json_is_sorted_ascii_and_ends_in_a_newline() -> None:
    assert readable_json({"b": "ä", "a": [1]}) == b'{\n "a": [\n  1\n ],\n "b": "\\u00e4"\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_settings_are_finite(value: object) -> None:
    with pytest.raises(ValueError, match="finite numbers only"):
        to_json_value(value)


@pytest.mark.parametrize(
    ("value", "name"), [({1, 2}, "set"), (b"x", "bytes"), (object(), "object"), (Settings, "type")]
)
def test_what_json_cannot_say_is_refused(value: object, name: str) -> None:
    with pytest.raises(TypeError, match=f"settings cannot hold a {name}"):
        to_json_value(value)
