from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from storage.features.store import VariantReader
from tests.support.feature_samples import commit_tracks, make_track, variant_layout
from tests.support.view_stores import FILM, FRAMES, write_viewed_store
from trainer.view.feature_strips import MOST_CELLS, strips_json
from trainer.view.opened_store import OpenedStore
from trainer.view.overlays import CLASSES, _map_json, overlays_json


def test_many_rows_come_in_parts_that_join_without_a_gap(tmp_path: Path) -> None:
    snapshot = OpenedStore(write_viewed_store(tmp_path, with_media=False)).snapshot()
    variants = {
        name: one for name, one in snapshot.readers_of(FILM).items() if name.startswith("yolov5")
    }
    start, rows = 0.0, set()
    while start < 12.0:
        answer = overlays_json(FILM, variants, start, 12.0, most_rows=7)
        overlays = answer["overlays"]
        assert isinstance(overlays, list)
        one = overlays[0]
        assert isinstance(one, dict)
        assert len(one["items"]) <= 7  # type: ignore[arg-type]
        first: int = one["first_row"]  # type: ignore[assignment]
        rows |= set(range(first, first + len(one["items"])))  # type: ignore[arg-type]
        until: float = answer["until"]  # type: ignore[assignment]
        assert until > start
        start = until
    assert rows == set(range(FRAMES))


def test_a_map_is_sent_as_shares_of_its_highest_value() -> None:
    answer = _map_json(np.array([[0, 0.5], [1, np.nan]], np.float16))
    assert isinstance(answer, dict)
    levels = list(base64.b64decode(str(answer["base64"])))
    assert (answer["height"], answer["width"], answer["highest"]) == (2, 2, 1.0)
    assert levels == [0, 128, 255, 0]


def test_a_large_map_is_averaged() -> None:
    answer = _map_json(np.ones((224, 384), np.float16))
    assert isinstance(answer, dict)
    assert (answer["height"], answer["width"]) == (56, 96)
    assert len(base64.b64decode(str(answer["base64"]))) == 56 * 96


def test_there_are_eighty_classes() -> None:
    assert (len(CLASSES), CLASSES[0], CLASSES[-1]) == (80, "person", "toothbrush")


def test_strips_of_many_rows_are_means(tmp_path: Path) -> None:
    layout = variant_layout(tmp_path)
    commit_tracks(layout, [make_track("v001", 2 * MOST_CELLS + 1)])
    answer = strips_json(VariantReader(layout)["v001"])
    strips = {strip["array"]: strip for strip in answer["strips"]}  # type: ignore[union-attr, index, call-overload]
    pool5 = strips["pool5"]
    assert isinstance(pool5, dict)
    assert pool5["rows_per_cell"] == 3
    assert len(pool5["values"]) == -(-(2 * MOST_CELLS + 1) // 3)  # type: ignore[arg-type]
    # Of several ragged arrays only the one with the smallest items is counted.
    assert set(strips) == {"pool5", "nobody"}
