"""The place of an error is the last frame in the plug-in's own package."""

from __future__ import annotations

import pytest

from models.plugin_errors import describe, place_in_package


def fails() -> None:
    int("x")


def test_the_last_frame_in_the_package_is_named() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        fails()
    error = raised.value
    place = place_in_package(error, __name__.partition(".")[0])
    assert place.startswith(f"{__file__}, line ")
    assert place.endswith(", in fails")
    assert place_in_package(error, "another_package") == ""
    assert place_in_package(error, "") == ""
    assert describe(error) == "ValueError: invalid literal for int() with base 10: 'x'"
