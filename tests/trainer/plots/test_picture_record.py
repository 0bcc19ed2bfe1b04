"""A picture is drawn again only when what it shows, its code or its bytes changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.base.records import JSON
from tests.folders import MODULES, imported_modules
from trainer.plots import picture_record
from trainer.plots.picture_record import (
    OVERVIEW_CODE,
    TIMES_CODE,
    TRAINER,
    RecordedPicture,
)

PNG = b"\x89PNG as drawn"
NOT_DRAWING = {"view/opened_store.py"}
"""Files that are imported for the names of errors only."""


def picture(tmp_path: Path, code: tuple[str, ...] = TIMES_CODE, **shows: JSON) -> RecordedPicture:
    return RecordedPicture(tmp_path / "report" / "bars.png", {"rows": "1", **shows}, code)


def is_drawn(one: RecordedPicture) -> bool:
    def draw() -> None:
        one.path.parent.mkdir(exist_ok=True)
        one.path.write_bytes(PNG)

    return one.draw_if_changed(draw)


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    assert [is_drawn(picture(tmp_path)) for _ in range(3)] == [True, False, False]


def test_other_rows_are_drawn_each_time_that_they_change(tmp_path: Path) -> None:
    shown = ["1", "2", "2", "1"]
    assert [is_drawn(picture(tmp_path, rows=rows)) for rows in shown] == [True, True, False, True]


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: one.path.unlink(),
        lambda one: one.path.write_bytes(b"another picture"),
        lambda one: one.record_file.unlink(),
        lambda one: one.record_file.write_bytes(b"{"),
        lambda one: one.record_file.write_bytes(one.record_file.read_bytes().replace(b"1", b"2")),
    ],
    ids=["deleted", "altered", "record deleted", "record cut", "record altered"],
)
def test_what_was_deleted_or_altered_is_drawn_again(
    tmp_path: Path, damage: Callable[[RecordedPicture], object]
) -> None:
    one = picture(tmp_path)
    is_drawn(one)
    damage(one)
    assert is_drawn(one)
    assert one.path.read_bytes() == PNG
    assert not is_drawn(one)


@pytest.mark.parametrize("written", [None, b"\x89PNG of row"])
def test_an_interrupted_drawing_is_repeated(tmp_path: Path, written: bytes | None) -> None:
    """The kill comes before the picture is replaced, or between it and its record."""
    is_drawn(picture(tmp_path))
    changed = picture(tmp_path, rows="2")

    def killed() -> None:
        if written is not None:
            changed.path.write_bytes(written)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        changed.draw_if_changed(killed)
    assert is_drawn(picture(tmp_path)) == (written is not None), "the rows from before are back"
    assert is_drawn(changed)


def test_other_code_and_another_matplotlib_draw_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_drawn(picture(tmp_path))
    assert is_drawn(picture(tmp_path, OVERVIEW_CODE))
    monkeypatch.setattr(picture_record, "version", lambda name: f"another {name}")
    assert is_drawn(picture(tmp_path, OVERVIEW_CODE))


@pytest.mark.parametrize(
    ("drawing", "code"),
    [
        ("trainer.plots.store_overview", OVERVIEW_CODE),
        ("trainer.plots.time_breakdown", TIMES_CODE),
    ],
)
def test_the_code_is_all_of_the_trainer_that_draws(drawing: str, code: tuple[str, ...]) -> None:
    found: set[str] = set()
    waiting = {drawing}
    while waiting:
        module = waiting.pop()
        name = MODULES[module].relative_to(TRAINER).as_posix()
        if name not in found | NOT_DRAWING:
            found.add(name)
            imported = imported_modules(MODULES[module])
            waiting |= {one for one in imported if one.startswith("trainer.")}
    assert sorted(found) == sorted(code)
