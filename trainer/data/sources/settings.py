"""What a recipe says of its data: which arrays, what a position is, what a history is, who is held
out.

Refuses to know any store; `open_data` checks the settings against one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.highlight.base.contract import History, Unit

HistoryOwner = Literal["own", "other", "nobody"]
"""Whose history a model is handed: the user's; that of another user of the split (a control: what a
personalised model gains has to go away); or none.
"""


@dataclass(frozen=True)
class ClipShape:
    """What a clip is. L and resolution are a recipe's; the defaults are TASED-Net's."""

    frames: int = 32
    """L, the frame a position is about included. Counted in kept pictures: with `frames_per_second
    = 0` of `frames` they are native frames, as both papers mean it.
    """
    height: int = 224
    width: int = 384
    stride_rows: int = 1
    """Without saliency, which says the instants, every so many pictures make a position."""

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.stride_rows) < 1:
            raise ValueError(
                f"a clip's frames, height, width and stride_rows are at least 1, got {self}"
            )


_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""`VARIANT/ARRAY`."""


@dataclass(frozen=True)
class DataSettings:
    """Arrays, unit and history are the model's (`ModelSpec`); defaults are PHD-GIFs' (section 5.3)
    where it has one.
    """

    arrays: tuple[str, ...]
    """Array keys, `VARIANT/ARRAY`; the rows of the first are the positions if the unit is a row."""
    unit: Unit
    history: History
    max_items: Mapping[str, int] = field(default_factory=dict)
    """Ragged array → so many items of a row are kept: the first ones, which extractors store best
    first. A ragged array `(items, ...)` becomes dense `(max_items, ...)`, and an item that is not
    there is zero in every value.
    """
    window_rows: int | None = None
    """Training sees windows of so many rows, cut side by side, those that hold a highlight (PR-Net:
    256); None: whole videos. Scoring always sees whole videos.
    """
    clip: ClipShape | None = None
    """For models of pixels: positions are clips of the pictures among `arrays`, at the instants of
    the saliency among them; None: positions are rows as they are stored.
    """
    rows_drawn: int | None = None
    """Training on rows of judged videos: so many of a video's, drawn anew each epoch; None: all of
    them.
    """
    segment_seconds: float = 5.0
    """Length of a segment when scoring, and of what long shots and unmarked stretches are cut
    into.
    """
    longest_shot_seconds: float = 15.0
    """Longer shots are cut into segments."""
    shots: Path | None = None
    """A table of shots (video_id,start_seconds,end_seconds) to train on; None: GIFs, and chunks of
    the rest.
    """
    targets: Literal["every", "last"] = "every"
    """Training: every video of a user takes its turn as target with the others as history, or the
    last one alone.
    """
    pairs: int = 5
    """(s+, s-) pairs drawn from a user's video."""
    only_pairs: bool = False
    """Training on segments: positions outside the pairs are not read. For models that score each
    segment alone.
    """
    max_elements: int = 20
    """Elements of the history a model sees in training (PHD-GIFs: 20 shots; MHA+Fusion: 15
    clips).
    """
    max_elements_scoring: int | None = None
    """The same when scoring; None: all (PHD-GIFs), at the price of the longest history of a
    batch.
    """
    history_videos: int | None = None
    """The history is that of so many videos (the curve k = 0..20); None: all."""
    element_rows: int = 256
    """A longer element of the history is thinned evenly to so many positions. Ours: it bounds
    memory, and the longest of 20,488 published GIFs has 51 rows of C3D.
    """
    whose: HistoryOwner = "own"
    holdout_users: int | None = None
    """Users of `train` kept for validation where the dataset names none; None: 1000, as PHD2 says
    how many, not which, or one in ten where that is fewer, and at least one.
    """
    holdout_seed: int = 0
    grouping: str = ""
    """Catalogs whose splits are of videos: which split, such as vlist_sel, umt or folds-5-0; empty:
    that of the catalog's rule (`trainer.data.labels.annotator_labels`).
    """
    domain: str = ""
    """Catalogs with domains: the one that is asked about, and whose labels are learned unless
    `source` names another; empty: all of them as one.
    """
    source: str = ""
    """The domain whose labels are learned; `domain` is then seen without labels."""
    against: Literal["nothing", "domain", "others"] = "nothing"
    """Training on two batches: the second one's videos are those of `domain`, or of all other
    domains.
    """
    first_seconds: tuple[float, float] | None = None
    """Only videos that last so long, `[from, to)` seconds, are in the first batch ..."""
    second_seconds: tuple[float, float] | None = None
    """... and in the second."""
    holdout_videos: int = 0
    """Training videos of each domain that are kept for validation."""
    every_segment: bool = False
    """Training: a video comes once an epoch for each of its segments, around which its set is
    drawn, as in the released code of set-based learning; else once.
    """

    def __post_init__(self) -> None:
        if not self.arrays or not all(_KEY.fullmatch(key) for key in self.arrays):
            raise ValueError(f"arrays are keys such as c3d/pool5, at least one; got {self.arrays}")
        if len(set(self.arrays)) != len(self.arrays):
            raise ValueError(f"arrays names each key once; got {self.arrays}")
        if unknown := set(self.max_items) - set(self.arrays):
            raise ValueError(
                f"max_items names arrays that are not read: {', '.join(sorted(unknown))}"
            )
        for name in ("segment_seconds", "longest_shot_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is above 0, got {getattr(self, name)}")
        for name, least in (("max_elements", 1), ("element_rows", 1), ("pairs", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is at least {least}, got {getattr(self, name)}")
        for name, least in (
            ("window_rows", 1),
            ("rows_drawn", 1),
            ("max_elements_scoring", 1),
            ("history_videos", 0),
            ("holdout_users", 0),
            ("holdout_videos", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is None or at least {least}, got {value}")
        self._check_unit()
        self._check_domains()

    def _check_domains(self) -> None:
        if self.source and (self.source == self.domain or not self.domain):
            raise ValueError(
                f"source is another domain than domain; got {self.source!r} and {self.domain!r}"
            )
        if self.against == "others" and not self.domain:
            raise ValueError("against = 'others' needs a domain that they are other than")
        bounds = [pair for pair in (self.first_seconds, self.second_seconds) if pair is not None]
        if any(not 0 <= low < high for low, high in bounds):
            raise ValueError(
                f"first_seconds and second_seconds are [from, to) with 0 <= from < to; got {bounds}"
            )
        if self.against == "domain" and not self.source and len(bounds) < 2:
            raise ValueError(
                "both batches would be of the same videos: set source, or first_seconds and second_seconds"
            )

    def _check_unit(self) -> None:
        if self.unit == "segment" and self.window_rows is not None:
            raise ValueError(
                "window_rows cuts rows; a model of segments sees whole videos, or only_pairs of them"
            )
        if self.unit == "segment" and (self.rows_drawn is not None or self.clip is not None):
            raise ValueError(
                "rows_drawn and clip are for models of rows; this one's unit is a segment"
            )
        if self.only_pairs and not self.pairs:
            raise ValueError(
                "only_pairs reads the positions of pairs, so pairs is at least 1, got 0"
            )
        if self.unit == "row" and (self.only_pairs or self.shots is not None):
            raise ValueError(
                "only_pairs and shots are for models of segments; this one's unit is a row"
            )
