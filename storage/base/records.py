"""The nouns that two or more packages speak of. Frozen, and each checks itself.

Times are float64 seconds; intervals are half-open `[start, end)`. A noun enters this file when a
second package needs it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
JSON = str | int | float | bool | None | list["JSON"] | dict[str, "JSON"]

CONTAINER_START = "container_start"
"""Seconds since the container's own start, as players count: all times that this release makes."""
STREAM_CLOCK = "stream_clock"
"""Seconds on the stream's own clock, which need not begin at 0: times in parts of format version
1.
"""
TIME_ORIGINS = (CONTAINER_START, STREAM_CLOCK)

VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What an id may look like. It becomes part of file names and addresses, so nothing else is let in;
a leading `-` is normal (one YouTube id in 64 has it).
"""
SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]([A-Za-z0-9_ -]{0,62}[A-Za-z0-9_-])?")
"""What a site or a folder may call a video: an id, or that with blanks inside."""
GROUP_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a grouping of videos, or a group in it, may be called."""


@dataclass(frozen=True, order=True)
class Video:
    """One video of a catalog."""

    video_id: str
    claimed_duration_seconds: float | None = None
    """As the annotations state it; None where they do not know. Never used to compute a time."""
    frames_least: int | None = None
    """Fewest frames that the annotated original file can have had; None where nothing is known."""
    frames_most: int | None = None
    """Most frames it can have had. Equal to `frames_least` where the annotations state the
    count.
    """
    alternative_ids: tuple[str, ...] = ()
    """What a site is asked for, one after the other until it has one; empty: `video_id`. A folder
    is searched for `video_id` first, and then for these.
    """

    def __post_init__(self) -> None:
        if not VIDEO_ID.fullmatch(self.video_id):
            raise ValueError(f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {self.video_id!r}")
        if strange := [name for name in self.alternative_ids if not SOURCE_NAME.fullmatch(name)]:
            raise ValueError(
                f"a video is asked for as 1 to 64 of A-Z a-z 0-9 _ - and blanks, got {strange[0]!r}"
            )
        least, most = self.frames_least or 0, self.frames_most
        if least < 0 or (most is not None and most < max(least, 1)):
            raise ValueError(
                f"frames_least is 0 or more and frames_most at least that and 1, got {self}"
            )


@dataclass(frozen=True, order=True)
class Annotation:
    """One published label: somebody found `[start, end)` of a video worth `value`.

    `start` and `end` are in the unit the catalog states (seconds, or frame numbers of an original
    file) and are kept as published: they may overrun the video.
    """

    video_id: str
    annotator: str
    start: float
    end: float
    value: float = 1.0


@dataclass(frozen=True, order=True)
class Link:
    """What a video is to a user: part of their history, or the target to predict."""

    user_id: str
    video_id: str
    role: str
    """`history` or `target`."""

    def __post_init__(self) -> None:
        if self.role not in ("history", "target"):
            raise ValueError(f"a link's role is 'history' or 'target', got {self.role!r}")


@dataclass(frozen=True, order=True)
class User:
    """One annotator whose taste can be learnt, and the split they belong to."""

    user_id: str
    split: str


@dataclass(frozen=True, order=True)
class Group:
    """A video's membership in one group of a grouping: `domain` dog, `vlist_sel` test. A video may
    be in several.
    """

    grouping: str
    """`domain` says what a video is about; any other grouping is a split of the dataset, named
    after who made it.
    """
    name: str
    video_id: str

    def __post_init__(self) -> None:
        for word in (self.grouping, self.name):
            if not GROUP_WORD.fullmatch(word):
                raise ValueError(f"a group is named in 1 to 64 of A-Z a-z 0-9 _ -, got {word!r}")


@dataclass(frozen=True)
class Ragged:
    """An array whose rows hold different numbers of items: detections of a frame, bytes of a
    picture.
    """

    values: Array
    """`(items, *item_shape)`: all rows' items, one after the other."""
    lengths: NDArray[np.int64]
    """`(rows,)`: how many items each row has; zero is allowed."""

    def __post_init__(self) -> None:
        if self.lengths.ndim != 1 or self.lengths.dtype != np.int64:
            raise ValueError(
                f"lengths are int64 (rows,), got {self.lengths.dtype} {self.lengths.shape}"
            )
        if (self.lengths < 0).any() or self.lengths.sum() != len(self.values):
            raise ValueError(
                f"lengths add up to {self.lengths.sum()}, but there are {len(self.values)} items"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """`(rows + 1,)`: row i holds items `[offsets[i], offsets[i + 1])`."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths, dtype=np.int64)])

    def __repr__(self) -> str:
        return f"Ragged({len(self)} rows, {self.values.shape[0]} items of {self.values.dtype}{self.values.shape[1:]})"


@dataclass(frozen=True)
class FeatureTrack:
    """One video seen by one extractor: named arrays over shared rows, and what time each row
    describes.
    """

    video_id: str
    spans: NDArray[np.float64]
    """`(rows, 2)`: `[start, end)` in seconds; since when, the part says (`TIME_ORIGINS`)."""
    arrays: Mapping[str, Array | Ragged] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spans.dtype != np.float64 or self.spans.ndim != 2 or self.spans.shape[1] != 2:
            raise ValueError(
                f"spans are float64 (rows, 2), got {self.spans.dtype} {self.spans.shape}"
            )
        if not np.isfinite(self.spans).all() or (self.spans[:, 1] <= self.spans[:, 0]).any():
            raise ValueError(f"{self.video_id}: every span must be finite with start < end")
        for name, array in self.arrays.items():
            if len(array) != len(self.spans):
                raise ValueError(
                    f"{self.video_id}: {name} has {len(array)} rows, spans have {len(self.spans)}"
                )

    @property
    def rows(self) -> int:
        """How many rows every array of the track has."""
        return len(self.spans)

    @property
    def nbytes(self) -> int:
        """Bytes the track takes in a part, without the part's own overhead."""
        return self.spans.nbytes + sum(
            array.values.nbytes + array.lengths.nbytes
            if isinstance(array, Ragged)
            else array.nbytes
            for array in self.arrays.values()
        )

    def digest(self) -> str:
        """sha256 over id, spans and arrays by name: equal content, equal digest, wherever the rows
        are stored.

        Computed once: rows are not changed after they were made.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256(self.video_id.encode())
        for name, array in [("spans", self.spans), *sorted(self.arrays.items())]:
            for label, part in _plain_parts(name, array):
                sha.update(f"\0{label}\0{part.dtype.str}\0{part.shape}\0".encode())
                sha.update(np.ascontiguousarray(part).data)
        return sha.hexdigest()

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}={array!r}"
            if isinstance(array, Ragged)
            else f"{name}={array.dtype}{array.shape}"
            for name, array in sorted(self.arrays.items())
        )
        return f"FeatureTrack({self.video_id}, {self.rows} rows, {shapes})"


def _plain_parts(name: str, array: Array | Ragged) -> list[tuple[str, Array]]:
    if isinstance(array, Ragged):
        return [(f"{name}/values", array.values), (f"{name}/lengths", array.lengths)]
    return [(name, array)]
