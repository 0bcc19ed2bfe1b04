"""Settings from texts and tables: every fault at once, with value, allowed values and near miss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from models.extractors.c3d.settings import C3DSettings
from models.settings_binding import bind, convert, descriptions, json_schema


@dataclass(frozen=True)
class Inner:
    """A table inside a table."""

    depth: int = 1

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1; got {self.depth}")


@dataclass(frozen=True)
class Sample:
    """Every kind of field."""

    name: str
    """What it is called,
    in words."""
    count: int = 2
    share: float = 0.5
    is_on: bool = False
    names: tuple[str, ...] = ("a",)
    size: tuple[int, int] = (1, 2)
    choice: Literal["fast", "slow", 1] = "fast"
    limit: int | None = None
    place: Path = Path()
    inner: Inner = Inner()
    extra: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1; got {self.count}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be 0 to 1; got {self.share}")
        if self.is_on and self.limit is None:
            raise ValueError("limit is needed with is_on = true")


def test_texts_become_values() -> None:
    given = {"name": "x", "count": "3", "share": ".25", "is_on": "False", "names": "a, b,"}
    bound = bind(Sample, given, from_text=True)
    assert bound.faults == ()
    assert bound.settings == Sample("x", 3, 0.25, False, ("a", "b"))


def test_tables_become_values() -> None:
    given = {
        "name": "x", "share": 1, "size": [3, 4], "choice": 1, "limit": "", "place": "a/b",
        "inner": {"depth": 2}, "extra": {"k": 1},
    }  # fmt: skip
    bound = bind(Sample, given)
    assert bound.faults == ()
    assert bound.settings == Sample(
        "x", share=1.0, size=(3, 4), choice=1, place=Path("a/b"), inner=Inner(2), extra={"k": 1.0}
    )


def test_every_fault_is_found_at_once() -> None:
    given = {"count": "0", "share": "2", "is_on": "yes", "nmae": "x", "limit": "many"}
    bound = bind(Sample, given, where="[sample] ", from_text=True)
    assert bound.settings is None
    assert sorted(bound.faults) == [
        "[sample] is_on must be true or false; got 'yes'",
        "[sample] limit must be a whole number or empty; got 'many'",
        "[sample] name is missing",
        "[sample] nmae is not a setting; did you mean name?",
    ]
    refused = bind(Sample, {"name": "x", "count": "0", "share": "2"}, from_text=True)
    assert refused.faults == ("count must be at least 1; got 0", "share must be 0 to 1; got 2.0")


def test_a_refusal_that_names_no_field_ends_the_search() -> None:
    bound = bind(Sample, {"name": "x", "is_on": True, "share": 3.0})
    assert bound.faults == ("share must be 0 to 1; got 3.0", "limit is needed with is_on = true")


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, True), (int, 1.0), (int, "1"), (int, 2**31), (float, "1"), (float, float("nan")),
        (float, 10**400), (bool, 1), (str, 1), (tuple[int, ...], "12"), (tuple[int, int], [1]),
        (Literal[1, 2], True), (Path, 3), (Mapping[str, float], [1]),
    ],
)  # fmt: skip
def test_a_table_value_of_another_type_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"number|true or false|text|list|one of|path|table"):
        convert(hint, value)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "4.0"), (int, "4_000"), (int, ""), (float, "nan"), (float, "inf"), (float, "1e999"),
        (bool, "yes"), (bool, ""), (Literal["a", "b"], "c"), (int, "99999999999"),
    ],
)  # fmt: skip
def test_a_text_of_another_type_is_refused(hint: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"number|true or false|one of"):
        convert(hint, text, from_text=True)


def test_real_settings_tell_all_that_is_wrong() -> None:
    given = {"arrays": "conv5", "stride_frames": "0", "pool5": "floor", "mirror": "perhaps"}
    faults = bind(C3DSettings, given, where="[c3d] ", from_text=True).faults
    assert len(faults) == 4
    assert all(fault.startswith("[c3d] ") for fault in faults)


def test_descriptions_come_from_the_class() -> None:
    assert descriptions(Sample) == {"name": "What it is called, in words."}
    assert {"arrays", "stride_frames", "precision", "resize"} <= descriptions(C3DSettings).keys()


def test_the_schema_lists_fields_defaults_and_choices() -> None:
    schema = json_schema(Sample)
    assert schema["required"] == ["name"]
    assert schema["properties"]["count"]["default"] == 2
    assert schema["properties"]["choice"]["enum"] == ["fast", "slow", 1]
    assert schema["properties"]["name"]["description"] == "What it is called, in words."
    assert schema["additionalProperties"] is False
