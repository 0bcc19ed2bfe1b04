"""A store as pandas data frames: spans of rows, labels, and the status of every video.

pandas is imported when a frame is made, and only then. Texts of a catalog (titles, reasons, names
of people) are values of cells: nothing reads them as a formula, a path or an expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import Catalog
from storage.catalog.csv_tables import text_column

if TYPE_CHECKING:
    from pandas import DataFrame as DataFrame  # it ships no types

TableName = Literal["spans", "labels", "states"]
METADATA_PREFIX = "metadata."
"""Before the key of a metadata column: a key may be any text, also that of another column."""
SPLITS_SEPARATOR = "|"
"""Between the splits of a video that is in several. No name of a group holds it."""


class VideoRows(Protocol):
    """The rows of one video."""

    @property
    def spans(self) -> NDArray[np.float64]:
        """`(rows, 2)`: start and end of each row in seconds."""
        ...


class VariantRows(Protocol):
    """One variant of a store."""

    @property
    def name(self) -> str:
        """Its full name."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        ...

    @property
    def statuses(self) -> Mapping[str, VideoStatus]:
        """The status of every id that has one."""
        ...

    def __getitem__(self, video_id: str) -> VideoRows:
        """The rows of a video that is done."""
        ...


@dataclass(frozen=True)
class StoreTables:
    """What frames are made of."""

    read_catalog: Callable[[], Catalog]
    """Called only for a table that needs the catalog."""
    variants: Sequence[VariantRows]
    grouping: str = ""
    """Which splits to write beside labels; see `Catalog.ids_by_split`."""

    def frame(self, table: TableName) -> DataFrame:
        """One table. Raises LookupFailed for an unknown name."""
        makers: Mapping[str, Callable[[ModuleType], DataFrame]] = {
            "spans": self._spans,
            "labels": self._labels,
            "states": self._states,
        }
        if table not in makers:
            raise LookupFailed(
                f"there is no table {table!r}; choose one of {', '.join(get_args(TableName))}"
            )
        return makers[table](import_pandas())

    def _spans(self, pd: ModuleType) -> DataFrame:
        ids, spans, counts, names = [], [], [], []
        for variant in self.variants:
            for video_id in variant.ids:
                of_video = variant[video_id].spans
                ids.append(video_id)
                names.append(variant.name)
                spans.append(of_video)
                counts.append(len(of_video))
        times = np.concatenate(spans) if spans else np.zeros((0, 2))
        rows = [np.arange(count, dtype=np.int64) for count in counts]
        columns = {
            "video_id": _repeated(pd, ids, counts),
            "variant": _repeated(pd, names, counts),
            "row": np.concatenate(rows) if rows else np.zeros(0, np.int64),
            "start_seconds": times[:, 0],
            "end_seconds": times[:, 1],
        }
        return pd.DataFrame(columns)

    def _labels(self, pd: ModuleType) -> DataFrame:
        catalog = self.read_catalog()
        rows = list(catalog.annotations)
        splits = _split_of_annotations(catalog, self.grouping)
        columns = {
            "video_id": _texts(pd, [row.video_id for row in rows]),
            "annotator": _texts(pd, [row.annotator for row in rows]),
            "start": np.array([row.start for row in rows], np.float64),
            "end": np.array([row.end for row in rows], np.float64),
            "unit": pd.Categorical([catalog.time_unit] * len(rows), ["seconds", "frames"]),
            "value": np.array([row.value for row in rows], np.float64),
            "split": _texts(pd, splits),
        }
        return pd.DataFrame(columns)

    def _states(self, pd: ModuleType) -> DataFrame:
        catalog = self.read_catalog()
        video_ids = sorted(text_column(catalog.videos, "video_id"))
        ids = video_ids * len(self.variants)
        names = [variant.name for variant in self.variants for _ in video_ids]
        statuses = [variant.statuses.get(one) for variant in self.variants for one in video_ids]
        columns = {
            "video_id": _texts(pd, ids),
            "variant": pd.Categorical(names),
            "state": pd.Categorical(_fields(statuses, "state")),
            "reason": _texts(pd, _fields(statuses, "reason")),
            "detail": _texts(pd, _fields(statuses, "detail")),
        }
        return pd.DataFrame({**columns, **_metadata_columns(pd, catalog, ids)})


def _fields(statuses: Sequence[VideoStatus | None], name: str) -> list[str | None]:
    """One field of each status; None for a video without one."""
    return [None if status is None else str(getattr(status, name)) for status in statuses]


def _metadata_columns(pd: ModuleType, catalog: Catalog, ids: Sequence[str]) -> dict[str, Any]:
    metadata = catalog.metadata_by_video
    keys = sorted({row.key for row in catalog.metadata})
    of_lines = [metadata.get(video_id, {}) for video_id in ids]
    return {
        METADATA_PREFIX + key: _texts(pd, [of_video.get(key) for of_video in of_lines])
        for key in keys
    }


def import_pandas() -> ModuleType:
    """pandas. Raises ModuleNotFoundError, which names the extra that installs it."""
    try:
        return import_module("pandas")
    except ModuleNotFoundError as error:
        if error.name != "pandas":
            raise
        raise ModuleNotFoundError(
            "to_pandas needs pandas, which is not installed: run pip install '.[export]' in your "
            "checkout of video-highlights",
            name="pandas",
        ) from error


def _texts(pd: ModuleType, values: Sequence[str | None]) -> Any:
    # Stated, because the default is another type with pyarrow than without.
    return pd.array(values, dtype=pd.StringDtype("python"))


def _repeated(pd: ModuleType, values: Sequence[str], counts: Sequence[int]) -> Any:
    """Each text so many times, as a category: a store may have a hundred million rows."""
    names = sorted(set(values))
    codes = {name: code for code, name in enumerate(names)}
    numbers = np.array([codes[value] for value in values], np.int64)
    return pd.Categorical.from_codes(np.repeat(numbers, counts), names)


def _split_of_annotations(catalog: Catalog, grouping: str) -> list[str | None]:
    """The split of each annotation: of its annotator among users, otherwise of its video."""
    if catalog.users and grouping in ("", "users"):
        split_of = {user.user_id: user.split for user in catalog.users}
        return [split_of.get(row.annotator) for row in catalog.annotations]
    names = _names_by_video(catalog.ids_by_split(grouping))
    return [names.get(video_id) for video_id in text_column(catalog.annotations, "video_id")]


def _names_by_video(splits: Mapping[str, Iterable[str]]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for split, video_ids in splits.items():
        for video_id in video_ids:
            names.setdefault(video_id, []).append(split)
    return {video_id: SPLITS_SEPARATOR.join(sorted(found)) for video_id, found in names.items()}
