"""Data settings of a recipe: arrays, unit, history, splits and hold-outs.

They are checked for themselves here; `open_data` checks them against a store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.highlight.base.contract import History, Unit
from models.validation import above, at_least

HistoryOwner = Literal["own", "other", "nobody"]
"""The history that a model gets: the user's own, that of another user, or none.

Another user's history is a control experiment: what a personalised model gains must disappear.
"""


@dataclass(frozen=True)
class ClipShape:
    """Length and resolution of a clip; the defaults are TASED-Net's."""

    frames: int = 32
    """L, including the frame of the position itself. Counted in stored frames: with
    `frames_per_second = 0` of the extractor `frames` these are native frames, as both papers mean.
    """
    height: int = 224
    width: int = 384
    stride_rows: int = 1
    """Without saliency maps, whose times are the positions, every so many frames are one."""

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width", "stride_rows"):
            at_least(f"clip.{name}", getattr(self, name), 1)


_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""`VARIANT/ARRAY`."""
_LOWEST = {
    "max_elements": 1,
    "element_rows": 1,
    "pairs": 0,
    "window_rows": 1,
    "rows_drawn": 1,
    "max_elements_scoring": 1,
    "history_videos": 0,
    "holdout_users": 0,
    "holdout_videos": 0,
}
"""Setting → the lowest value allowed; None is allowed where a setting may be None."""


@dataclass(frozen=True)
class DataSettings:
    """How data is read for a model.

    Arrays, unit and history are those of the model (`ModelSpec`). Defaults are PHD-GIFs' (section
    5.3) where it names one.
    """

    arrays: tuple[str, ...]
    """Array keys, `VARIANT/ARRAY`; the rows of the first are the positions if the unit is a row."""
    unit: Unit
    history: History
    max_items: Mapping[str, int] = field(default_factory=dict)
    """Ragged array → number of items kept of a row, the first ones: extractors store the best
    first. A ragged array `(items, ...)` becomes dense `(max_items, ...)`, padded with zeros.
    """
    window_rows: int | None = None
    """Training reads windows of so many rows, cut side by side, those with a highlight (PR-Net:
    256); None: whole videos. Scoring always reads whole videos.
    """
    clip: ClipShape | None = None
    """For models of pixels: positions are clips of the frames among `arrays`, at the times of the
    saliency maps among them; None: positions are rows as they are stored.
    """
    rows_drawn: int | None = None
    """Training on rows of annotated videos: the number drawn from a video each epoch; None: all."""
    segment_seconds: float = 5.0
    """Length of a segment when scoring, and of the pieces of long shots and unlabelled gaps."""
    longest_shot_seconds: float = 15.0
    """Longer shots are cut into segments."""
    shots: Path | None = None
    """A CSV table of shots (video_id,start_seconds,end_seconds) to train on; None: the highlights,
    and chunks of the gaps between them.
    """
    targets: Literal["every", "last"] = "every"
    """Training: every video of a user in turn is the target, with the others as history; or only
    the last one.
    """
    pairs: int = 5
    """(s+, s-) pairs drawn from a user's video."""
    only_pairs: bool = False
    """Training on segments: only the positions of pairs are read. For models whose score of a
    segment does not depend on other segments.
    """
    max_elements: int = 20
    """Elements of the history in training (PHD-GIFs: 20 shots; MHA+Fusion: 15 clips)."""
    max_elements_scoring: int | None = None
    """The same when scoring; None: all (PHD-GIFs). A batch is padded to its longest history."""
    history_videos: int | None = None
    """Number of videos in the history (the curve k = 0..20); None: all."""
    element_rows: int = 256
    """A longer element of the history is thinned evenly to so many positions. Ours, to bound
    memory: the longest of 20,488 published GIFs has 51 rows of C3D.
    """
    whose: HistoryOwner = "own"
    holdout_users: int | None = None
    """Users of `train` held out for validation if the dataset names none. None: one in ten, at
    least one and at most 1000, the number that PHD2 states without naming the users.
    """
    holdout_seed: int = 0
    grouping: str = ""
    """Catalogs with splits of videos: the name of the split, such as vlist_sel, umt or folds-5-0;
    empty: that of the catalog's rule (`trainer.data.labels.annotator_labels`).
    """
    domain: str = ""
    """Catalogs with domains: the domain to evaluate, whose labels are learned unless `source` names
    another; empty: all of them as one.
    """
    source: str = ""
    """The domain whose labels are learned; the videos of `domain` are then used without labels."""
    against: Literal["nothing", "domain", "others"] = "nothing"
    """Training on two batches: the second batch has videos of `domain`, or of all other domains."""
    first_seconds: tuple[float, float] | None = None
    """Durations `[from, to)` in seconds of the videos in the first batch; None: all."""
    second_seconds: tuple[float, float] | None = None
    """The same for the second batch."""
    holdout_videos: int = 0
    """Training videos of each domain that are held out for validation."""
    every_segment: bool = False
    """Training: an epoch has a video once for each of its segments, around which its set is drawn,
    as in the released code of set-based learning; otherwise once.
    """

    def __post_init__(self) -> None:
        self._check_arrays()
        self._check_ranges()
        self._check_unit()
        self._check_domains()

    def _check_arrays(self) -> None:
        if not self.arrays or not all(_KEY.fullmatch(key) for key in self.arrays):
            raise ValueError(f"arrays are keys such as c3d/pool5, at least one; got {self.arrays}")
        if len(set(self.arrays)) != len(self.arrays):
            raise ValueError(f"arrays names each key once; got {self.arrays}")
        unknown = set(self.max_items) - set(self.arrays)
        if unknown:
            raise ValueError(
                f"max_items names arrays that are not in arrays: {', '.join(sorted(unknown))}"
            )

    def _check_ranges(self) -> None:
        above("segment_seconds", self.segment_seconds, 0)
        above("longest_shot_seconds", self.longest_shot_seconds, 0)
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            if value is not None:
                at_least(name, value, lowest)

    def _check_unit(self) -> None:
        if self.only_pairs and not self.pairs:
            raise ValueError("only_pairs needs pairs of at least 1, got 0")
        check = self._check_row_unit if self.unit == "row" else self._check_segment_unit
        check()

    def _check_segment_unit(self) -> None:
        if self.window_rows is not None:
            raise ValueError(
                "window_rows needs a model of rows; this model's unit is a segment: use only_pairs"
            )
        for name in ("rows_drawn", "clip"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} needs a model of rows; this model's unit is a segment")

    def _check_row_unit(self) -> None:
        if self.only_pairs:
            raise ValueError("only_pairs needs a model of segments; this model's unit is a row")
        if self.shots is not None:
            raise ValueError("shots needs a model of segments; this model's unit is a row")

    def _check_domains(self) -> None:
        if self.source:
            self._check_source()
        elif self.against == "domain":
            self._check_different_batches()
        if self.against == "others" and not self.domain:
            raise ValueError("against = 'others' needs a domain; set domain")
        for name in ("first_seconds", "second_seconds"):
            bounds = getattr(self, name)
            if bounds is not None and not 0 <= bounds[0] < bounds[1]:
                raise ValueError(f"{name} must be [from, to) with 0 <= from < to; got {bounds}")

    def _check_source(self) -> None:
        if not self.domain:
            raise ValueError(f"source = {self.source!r} needs a domain to evaluate; set domain")
        if self.source == self.domain:
            raise ValueError(
                f"source and domain must be different domains; got {self.source!r} for both"
            )

    def _check_different_batches(self) -> None:
        """Both batches are of one domain: only their durations can make them differ."""
        if self.first_seconds is None or self.second_seconds is None:
            raise ValueError(
                "against = 'domain' would fill both batches with the same videos: "
                "set source, or first_seconds and second_seconds"
            )
