"""Plain tables become settings, or every fault is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from storage.base.errors import SettingsError
from trainer.config.toml_binding import bind


@dataclass(frozen=True)
class Settings:
    width: int
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    shots: Path | None = None
    sizes: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 1.0)
    items: Mapping[str, int] = field(default_factory=dict)
    is_on: bool = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is at least 1, got {self.width}")


def test_values_of_every_kind_arrive() -> None:
    given = {
        "width": 3,
        "rate": 1,
        "kind": "b",
        "shots": "a.csv",
        "sizes": [1, 2],
        "items": {"x": 4},
        "is_on": True,
    }
    assert bind(Settings, given, "t") == Settings(
        3, 1.0, "b", Path("a.csv"), (1, 2), (1, 1.0), {"x": 4}, True
    )


def test_an_empty_text_is_nothing() -> None:
    assert bind(Settings, {"width": 1, "shots": ""}, "t").shots is None


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as told:
        bind(
            Settings,
            {"rate": "fast", "kind": "c", "sizes": [1, "2"], "widht": 3, "is_on": 1, "pair": [1]},
            "data",
        )
    text = str(told.value)
    for name in (
        "data.rate",
        "data.kind",
        "data.sizes",
        "data.widht",
        "data.is_on",
        "data.pair",
        "data.width is missing",
    ):
        assert name in text


@pytest.mark.parametrize("width", [True, 1.0, "1", None])
def test_a_whole_number_is_nothing_else(width: object) -> None:
    with pytest.raises(SettingsError, match="whole number"):
        bind(Settings, {"width": width}, "t")


def test_what_the_settings_refuse_is_a_fault_too() -> None:
    with pytest.raises(SettingsError, match=r"t\.width is at least 1, got 0"):
        bind(Settings, {"width": 0}, "t")
