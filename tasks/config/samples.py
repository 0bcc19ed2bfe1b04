"""The synthetic catalogs: their names, and the function that writes the videos of each.

The generators bring an encoder. They are imported when a sample is drawn, which is once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.synthetic.user_videos import Progress


def _write_sample(folder: Path, progress: Progress) -> None:
    from pipeline.synthetic.user_videos import SMALL, write_sample

    write_sample(folder, SMALL, progress=progress)


def _write_large_sample(folder: Path, progress: Progress) -> None:
    from pipeline.synthetic.user_videos import LARGE, write_sample

    write_sample(folder, LARGE, progress=progress)


def _write_category_sample(folder: Path, progress: Progress) -> None:
    from pipeline.synthetic.category_videos import write_category_sample

    write_category_sample(folder, progress=progress)


SAMPLES: dict[str, Callable[[Path, Progress], None]] = {
    "sample": _write_sample,
    "sample-large": _write_large_sample,
    "category-sample": _write_category_sample,
}
"""Synthetic catalogs: name → function that writes their videos into a folder."""
