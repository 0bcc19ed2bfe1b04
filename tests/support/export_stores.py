"""A store with everything that is hard to export: hostile titles, special floats, ragged arrays,
JPEG rows, ids that begin with `-`, and videos without features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from storage.base.paths import Layout
from storage.base.records import Array, FeatureTrack, Group, Link, Metadata, Ragged, User, Video
from storage.catalog.catalog import Catalog, write_catalog
from storage.features.store import FeatureStore
from tests.support.stores import SHARDS, write_variant

IDS = ("-dashFirst", "ABC", "_two", "gone", "plain-7")
DONE_IDS = ("-dashFirst", "ABC", "_two", "plain-7")
TITLES = {
    "-dashFirst": '=HYPERLINK("http://a.example","x")',
    "ABC": "<script>alert(1)</script>\nsecond line; +1",
    "_two": "@" + "é" * 299,
    "gone": '\'+49 "quoted", comma',
}
SPECIALS = np.array(
    [-0.0, 0.0, np.nan, np.inf, -np.inf, 65504.0, 6e-8, -1.5], np.float16
)  # 6e-8 is subnormal
SPECIALS_32 = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 1], np.uint32).view(np.float32)
"""Two NaN with a payload, -0.0 and a subnormal."""


def track(video_id: str, rows: int) -> FeatureTrack:
    """Rows of 1 s, side by side; a row of every array holds a special value."""
    rng = np.random.default_rng(rows)
    values = rng.normal(size=(rows, 8)).astype(np.float16)
    values[-1] = SPECIALS
    single = rng.normal(size=(rows, 2, 2)).astype(np.float32)
    single[0] = SPECIALS_32.reshape(2, 2)
    lengths = rng.integers(0, 3, rows)
    pictures = [b"\xff\xd8" + bytes(rng.integers(0, 256, 5 + row, np.uint8)) for row in range(rows)]
    arrays: dict[str, Array | Ragged] = {
        "Fc6": values,
        "maps": single,
        "segment": np.arange(rows, dtype=np.int64),
        "boxes": Ragged(rng.normal(size=(int(lengths.sum()), 4)).astype(np.float32), lengths),
        "marks": Ragged(rng.normal(size=(int(lengths.sum()), 3, 2)).astype(np.float16), lengths),
        "scores": Ragged(rng.normal(size=int(lengths.sum())).astype(np.float32), lengths),
        "nobody": Ragged(np.zeros((0, 2), np.uint8), np.zeros(rows, np.int64)),
        "jpeg": Ragged(
            np.frombuffer(b"".join(pictures), np.uint8),
            np.array([len(picture) for picture in pictures], np.int64),
        ),
    }
    starts = np.arange(rows, dtype=np.float64)
    return FeatureTrack(video_id, np.stack([starts, starts + 1], axis=1), arrays)


def write_hard_store(root: Path, *, weights: str = "random:7") -> Path:
    """The catalog `hard` with the variants `c3d` (all arrays) and `c3d.other` (one array)."""
    catalog = Catalog(
        name="hard",
        videos=tuple(map(Video, IDS)),
        users=(User("anna", "train"), User("bert", "test")),
        links=(Link("anna", "ABC", "history"), Link("bert", "plain-7", "target")),
        annotations=(),
        shard_count=SHARDS,
        time_unit="seconds",
        groups=(Group("domain", "dog", "ABC"), Group("vlist_sel", "held", "_two")),
        metadata=tuple(Metadata(video_id, "title", title) for video_id, title in TITLES.items()),
    )
    write_catalog(Layout(root, "hard"), catalog)
    tracks = [track(video_id, 3 + place) for place, video_id in enumerate(DONE_IDS)]
    settings = {"extractor": "c3d", "weights": weights}
    write_variant(root / "hard", tracks, settings=settings)
    short = [
        FeatureTrack(one.video_id, one.spans[:2], {"fc7": np.ones((2, 5), np.float32)})
        for one in tracks[:2]
    ]
    write_variant(root / "hard", short, variant="c3d.other", settings={**settings, "second": 1})
    return root / "hard"


def variant_named(folder: Path, short: str) -> str:
    """The full name of a variant."""
    return FeatureStore(folder)[short].name
