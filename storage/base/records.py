"""The data classes that several packages share: videos, annotations, users, feature tracks.

All are frozen, and check themselves when they are made. Times are float64 seconds; intervals are
half-open `[start, end)`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
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
"""Seconds on the stream's own clock, which need not begin at 0: in parts of format version 1."""
TIME_ORIGINS = (CONTAINER_START, STREAM_CLOCK)

VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A valid id. It becomes part of file names and addresses, so nothing else is accepted.

A leading `-` is normal: one YouTube id in 64 has it.
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
    """Most frames it can have had; equal to `frames_least` where the annotations state them."""
    alternative_ids: tuple[str, ...] = ()
    """Ids to ask a site for, in order until it has one; if empty, it is asked for `video_id`.

    A folder is searched for `video_id` first, and then for these.
    """

    def __post_init__(self) -> None:
        if not VIDEO_ID.fullmatch(self.video_id):
            raise ValueError(f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {self.video_id!r}")
        for name in self.alternative_ids:
            if not SOURCE_NAME.fullmatch(name):
                raise ValueError(
                    f"an alternative id is 1 to 64 of A-Z a-z 0-9 _ - and blanks, got {name!r}"
                )
        least = self.frames_least or 0
        if least < 0:
            raise ValueError(f"frames_least must be 0 or more, got {self}")
        if self.frames_most is not None and self.frames_most < max(least, 1):
            raise ValueError(f"frames_most must be at least frames_least and 1, got {self}")


@dataclass(frozen=True, order=True)
class Annotation:
    """One published label: an annotator gave `[start, end)` of a video the score `value`.

    `start` and `end` are in the catalog's `time_unit` (seconds, or frame numbers of the original
    file). They are kept as published, so they may overrun the video.
    """

    video_id: str
    annotator: str
    start: float
    end: float
    value: float = 1.0


@dataclass(frozen=True, order=True)
class Link:
    """A video of a user: part of their history, or the target to predict."""

    user_id: str
    video_id: str
    role: str
    """`history` or `target`."""

    def __post_init__(self) -> None:
        if self.role not in ("history", "target"):
            raise ValueError(f"a link's role is 'history' or 'target', got {self.role!r}")


@dataclass(frozen=True, order=True)
class User:
    """One annotator whose preferences can be learnt, and the split they belong to."""

    user_id: str
    split: str


@dataclass(frozen=True, order=True)
class Group:
    """A video's membership in one group of a grouping: `domain` dog, `vlist_sel` test.

    A video may be in several.
    """

    grouping: str
    """`domain` is the subject of a video; any other grouping is a split, named after its author."""
    name: str
    video_id: str

    def __post_init__(self) -> None:
        for word in (self.grouping, self.name):
            if not GROUP_WORD.fullmatch(word):
                raise ValueError(f"a group is named in 1 to 64 of A-Z a-z 0-9 _ -, got {word!r}")


METADATA_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
"""What a property of a video may be called: text in one line."""
METADATA_VALUE = re.compile(r"[^\x00\ud800-\udfff]{0,10000}", re.DOTALL)
"""What is said of a video: any text that UTF-8 can carry, line breaks included."""
PLACE, TITLE = "place", "title"
"""Keys with a meaning: the path or address a video comes from, and what people call it."""


@dataclass(frozen=True, order=True)
class Metadata:
    """One property of a video, as its list states it: `title`, `place`, or any other column.

    It is text from outside: never a path, an option or markup before it is checked.
    """

    video_id: str
    key: str
    value: str

    def __post_init__(self) -> None:
        if not METADATA_KEY.fullmatch(self.key):
            raise ValueError(
                f"metadata is named in 1 to 128 characters of one line, got {self.key!r}"
            )
        if not METADATA_VALUE.fullmatch(self.value):
            raise ValueError(
                "a value of metadata has at most 10,000 characters and no NUL, "
                f"got {self.value[:100]!r}"
            )


@dataclass(frozen=True)
class Ragged:
    """An array whose rows have different numbers of items, such as detections of a frame."""

    values: Array
    """`(items, *item_shape)`: all rows' items, one after the other."""
    lengths: NDArray[np.int64]
    """`(rows,)`: how many items each row has; zero is allowed."""

    def __post_init__(self) -> None:
        if self.lengths.ndim != 1 or self.lengths.dtype != np.int64:
            raise ValueError(
                f"lengths are int64 (rows,), got {self.lengths.dtype} {self.lengths.shape}"
            )
        if (self.lengths < 0).any():
            raise ValueError(f"lengths must be 0 or more, got {self.lengths.min()}")
        if self.lengths.sum() != len(self.values):
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
        items = f"{self.values.shape[0]} items of {self.values.dtype}{self.values.shape[1:]}"
        return f"Ragged({len(self)} rows, {items})"


@dataclass(frozen=True)
class FeatureTrack:
    """The features of one video from one extractor: named arrays over shared rows, with times."""

    video_id: str
    spans: NDArray[np.float64]
    """`(rows, 2)`: `[start, end)` in seconds from the part's time origin (`TIME_ORIGINS`)."""
    arrays: Mapping[str, Array | Ragged] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_spans()
        for name, array in self.arrays.items():
            if len(array) != len(self.spans):
                raise ValueError(
                    f"{self.video_id}: {name} has {len(array)} rows, spans have {len(self.spans)}"
                )

    def _check_spans(self) -> None:
        is_table = self.spans.ndim == 2 and self.spans.shape[1] == 2
        if self.spans.dtype != np.float64 or not is_table:
            raise ValueError(
                f"spans are float64 (rows, 2), got {self.spans.dtype} {self.spans.shape}"
            )
        starts, ends = self.spans[:, 0], self.spans[:, 1]
        are_finite = np.isfinite(self.spans).all()
        if not are_finite or (ends <= starts).any():
            raise ValueError(f"{self.video_id}: every span must be finite with start < end")

    @property
    def rows(self) -> int:
        """Number of rows of every array of the track."""
        return len(self.spans)

    @property
    def nbytes(self) -> int:
        """Bytes the track takes in a part, without the part's own overhead."""
        return sum(part.nbytes for _, part in self._plain_arrays())

    def digest(self) -> str:
        """sha256 over id, spans and arrays by name, wherever the rows are stored.

        Computed once: rows are not changed after they were made.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        # The id goes in, so that a row stored under a wrong id is noticed.
        sha = hashlib.sha256(self.video_id.encode())
        for label, array in self._plain_arrays():
            # Name, type and shape go in too, or equal bytes of unlike arrays would look equal.
            sha.update(f"\0{label}\0{array.dtype.str}\0{array.shape}\0".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    def _plain_arrays(self) -> Iterator[tuple[str, Array]]:
        """Spans and arrays by name; a ragged array gives two, its values and its lengths."""
        yield "spans", self.spans
        for name, array in sorted(self.arrays.items()):
            if isinstance(array, Ragged):
                yield f"{name}/values", array.values
                yield f"{name}/lengths", array.lengths
            else:
                yield name, array

    def __repr__(self) -> str:
        shapes = [f"{name}={_form_of(array)}" for name, array in sorted(self.arrays.items())]
        return f"FeatureTrack({self.video_id}, {self.rows} rows, {', '.join(shapes)})"


def _form_of(array: Array | Ragged) -> str:
    return repr(array) if isinstance(array, Ragged) else f"{array.dtype}{array.shape}"
