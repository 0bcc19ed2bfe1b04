"""What a picture was drawn from, kept beside it, so that it is drawn again only if that changed.

    report/features.png
    report/features.drawn.json   digests of what it shows, of the code that drew it and of its bytes

The record is written after the picture. So a picture of a drawing that was interrupted, and one
that was altered or deleted, does not have the bytes that the record names, and is drawn again.
Neither matplotlib nor numpy is imported here: a run that finds nothing to do draws nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.files.atomic_write import publish
from storage.files.checksummed_json import read_sealed, seal

TRAINER = Path(__file__).parents[1]
_FIGURE = ("plots/captions.py", "plots/figure.py")
OVERVIEW_CODE = (*_FIGURE, "plots/store_overview.py", "view/feature_strips.py")
"""Files below `TRAINER` that decide how `store_overview.draw_overview` draws."""
TIMES_CODE = (*_FIGURE, "plots/time_breakdown.py")
"""The same of `time_breakdown.draw_times`."""


@dataclass(frozen=True)
class RecordedPicture:
    """A picture, and what it has to show."""

    path: Path
    shows: Mapping[str, JSON]
    """Names and digests of all data that it shows."""
    code: Sequence[str]
    """Files below `TRAINER` that draw it."""

    @property
    def record_file(self) -> Path:
        """`features.drawn.json` beside `features.png`."""
        return self.path.with_suffix(".drawn.json")

    def draw_if_changed(self, draw: Callable[[], object]) -> bool:
        """Call `draw`, which writes `path`, unless it shows this already; whether it was called.

        Raises ModuleNotFoundError if matplotlib is not installed.
        """
        drawn_from = self._drawn_from()
        if self._is_current(drawn_from):
            return False
        draw()
        publish(
            self.record_file, seal({**drawn_from, "png_sha256": _sha256(self.path)}), replace=True
        )
        return True

    def _drawn_from(self) -> dict[str, JSON]:
        """All that decides its bytes, apart from the fonts of this machine."""
        code = hashlib.sha256(b"".join((TRAINER / name).read_bytes() for name in self.code))
        return {
            "shows": dict(self.shows),
            "code_sha256": code.hexdigest(),
            "matplotlib": version("matplotlib"),
        }

    def _is_current(self, drawn_from: Mapping[str, JSON]) -> bool:
        try:
            record = read_sealed(self.record_file)
            return record == {**drawn_from, "png_sha256": _sha256(self.path)}
        except (FileNotFoundError, IntegrityError):
            return False  # deleted, or a damaged record, which is made again too


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
