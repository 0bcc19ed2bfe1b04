"""The picture of a store: colours that follow features, and a PNG that is the same twice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout
from storage.base.records import Annotation, FeatureTrack, Link, Ragged, User, Video
from storage.base.video_status import DONE
from storage.catalog.catalog import Catalog, write_catalog
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish
from trainer.plots.store_overview import draw_overview
from trainer.view.feature_strips import feature_colours


def spans(rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    starts = np.arange(rows, dtype=np.float64)
    return np.stack([starts, starts + 1], axis=1)


def jpeg(shade: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    worked, encoded = cv2.imencode(".jpg", np.full((36, 64, 3), shade, dtype=np.uint8))
    assert worked
    return np.asarray(encoded, dtype=np.uint8).reshape(-1)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    layout = Layout(tmp_path, "tiny")
    marks = (Annotation("one", "7", 0.5, 2.0), Annotation("one", "8", 1.0, 3.0))
    people = (User("7", "train"), User("8", "test"))
    links = (Link("7", "one", "target"), Link("8", "one", "history"))
    write_catalog(
        layout, Catalog("tiny", (Video("one"), Video("two")), people, links, marks, 1, "seconds")
    )
    pictures = [jpeg(30 * shade) for shade in range(4)]
    ragged = Ragged(
        np.concatenate(pictures), np.array([len(picture) for picture in pictures], dtype=np.int64)
    )
    clips = np.array([[0, 0], [0, 1], [5, 5], [5, 6]], dtype=np.float16)
    for name, track in (
        ("frames", FeatureTrack("one", spans(4), {"jpeg": ragged})),
        ("c3d", FeatureTrack("one", spans(4), {"pool5": clips})),
    ):
        settings = {"extractor": name, "weights": "random:0"}
        variant = layout.variant(name, fingerprint(settings))
        publish(variant.settings_file, readable_json(settings), replace=False)
        entry = ManifestEntry(DONE, rows=4, digest=track.digest())
        commit(
            variant,
            "tiny",
            0,
            entries={"one": entry},
            tracks=[track],
            max_part_bytes=10**6,
            provenance={},
        )
    return layout.folder


def test_a_picture_of_a_store(store: Path) -> None:
    first, second = (
        draw_overview(
            store, pictures="frames", clips="c3d", array="pool5", into=store / name
        ).read_bytes()
        for name in ("one.png", "two.png")
    )
    assert first == second
    picture = cv2.imdecode(np.frombuffer(first, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50, (
        "pictures, colours and bars, not a blank page"
    )


def test_alike_features_have_alike_colours() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.1, (5, 40)), rng.normal(3, 0.1, (6, 40))
    colours = feature_colours([near, far])
    assert [block.shape for block in colours] == [(5, 3), (6, 3)]
    assert min(block.min() for block in colours) == 0
    assert max(block.max() for block in colours) == 1
    between = abs(colours[0][:, 0].mean() - colours[1][:, 0].mean())
    assert between > 0.8 > 0.3 > max(np.ptp(block[:, 0]) for block in colours)


def test_one_clip_has_a_colour() -> None:
    assert feature_colours([np.ones((1, 4))])[0].tolist() == [[0.0, 0.0, 0.0]]
    assert feature_colours([]) == []
