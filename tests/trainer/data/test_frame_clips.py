"""Clips are the pictures that lead up to an instant; saliency is that of the same instant, or an
error says so.
"""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.extractors.base.sampling import EveryFrame, FramesAtRateWithHistory
from pipeline.sampling.planners import plan_windows
from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import FeatureTrack
from storage.features.store import FeatureStore
from tests.support.stores import write_variant
from tests.support.synthetic_store import HEIGHT, WIDTH, frame_spans, jpegs, scene, write_films
from trainer.data.sources.frame_clips import (
    FrameClips,
    clip_frame_numbers,
    decode_resized,
    match_frames_by_time,
    reflect_frame_numbers,
)
from trainer.data.sources.settings import ClipShape

SHAPE = ClipShape(frames=6, height=HEIGHT, width=WIDTH)
JPEG_ERROR = 12
"""Mean difference of levels that quality 95 and halved colour planes may make of noise."""


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_films(tmp_path, 2)


def test_a_clip_is_the_pictures_up_to_its_instant(films: Path) -> None:
    features = FrameClips(films, SHAPE)
    found = features.rows("v1", np.array([2, 5]))
    stored = FeatureStore(films)
    clips, saliency = found["frames/jpeg"], stored["tased"]["v1"]["saliency"][:]
    assert isinstance(saliency, np.ndarray)
    assert clips.shape == (2, 6, HEIGHT, WIDTH, 3)
    assert clips.dtype == np.uint8
    assert (features.row_spans("v1") == stored["tased"]["v1"].spans).all()
    for place, last in ((0, 8), (1, 20)):  # rows 2 and 5 of every fourth frame
        for back in range(6):
            jpeg = stored["frames"]["v1"]["jpeg"][last - back]
            assert isinstance(jpeg, np.ndarray)
            picture = decode_resized(jpeg, HEIGHT, WIDTH)
            assert (clips[place, 5 - back] == picture).all()
    assert (found["tased/saliency"] == saliency[[2, 5]]).all()


def test_pictures_are_red_where_red_was_drawn() -> None:
    pictures, covered = scene(np.random.default_rng(1), 3, is_highlight=True)
    stored = jpegs(pictures)
    decoded = np.stack(
        [decode_resized(stored.values[a:b], HEIGHT, WIDTH) for a, b in pairwise(stored.offsets)]
    )
    assert np.abs(decoded.astype(int) - pictures).mean() < JPEG_ERROR
    red, _, blue = decoded[covered].mean(0)
    assert red > blue + 100


def test_before_the_first_frame_comes_the_start_in_reverse() -> None:
    wanted = reflect_frame_numbers(clip_frame_numbers(np.array([0, 2, 5]), 4), 6)
    assert wanted.tolist() == [[2, 1, 0, 0], [0, 0, 1, 2], [2, 3, 4, 5]]
    assert reflect_frame_numbers(clip_frame_numbers(np.array([1]), 8), 2).tolist() == [
        [1, 1, 0, 0, 1, 1, 0, 0, 1][-8:]
    ]


def test_saliency_of_native_history_shares_instants_with_every_frame() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.09, 90)).tolist()
    spans = [
        np.array(
            [
                (w.start_seconds, w.end_seconds)
                for w in plan_windows(times, times[-1] + 0.04, sampling)
            ]
        )
        for sampling in (FramesAtRateWithHistory(2, 32), EveryFrame())
    ]
    places = match_frames_by_time("v", spans[0], spans[1], "tased", "frames")
    assert (spans[1][places] == spans[0]).all()
    assert 5 < len(places) < len(times)


def test_stores_of_other_instants_are_refused(films: Path, tmp_path: Path) -> None:
    saliency = FeatureStore(films)["tased"]["v0"].track()
    moved = FeatureTrack("v0", saliency.spans + 0.05, saliency.arrays)
    write_variant(
        films,
        [moved],
        variant="tased.late",
        settings={"extractor": "tased", "weights": "planted:1"},
    )
    features = FrameClips(films, SHAPE, saliency="tased.late")
    with pytest.raises(
        LookupFailed, match=r"v0: 8 of 8 rows of tased.late-\w+ .* frames_per_second = 0"
    ):
        features.rows("v0", np.array([0]))


def test_one_span_that_ends_elsewhere_is_another_instant() -> None:
    spans = frame_spans(4)
    longer = spans.copy()
    longer[2, 1] += 0.01
    with pytest.raises(LookupFailed, match="1 of 4 rows of a have times at which b has no frame"):
        match_frames_by_time("v", longer, spans, "a", "b")
    with pytest.raises(LookupFailed, match="4 of 4"):
        match_frames_by_time("v", spans, spans[:0], "a", "b")


def test_saliency_of_random_weights_is_refused(tmp_path: Path) -> None:
    films = write_films(tmp_path, 1, mark="random:0")
    with pytest.raises(SettingsError, match=r"random:0 weights.*spatial = false"):
        FrameClips(films, SHAPE)
    assert FrameClips(films, SHAPE, saliency=None).keys == ("frames/jpeg",)


def test_planted_saliency_passes_and_is_told(films: Path) -> None:
    notes = FrameClips(films, SHAPE).notes
    assert any("planted:0" in note for note in notes)


def test_without_saliency_every_so_many_pictures_are_positions(films: Path) -> None:
    features = FrameClips(films, ClipShape(6, HEIGHT, WIDTH, stride_rows=4), saliency=None)
    with_saliency = FrameClips(films, SHAPE)
    assert (features.row_spans("v0") == with_saliency.row_spans("v0")).all()
    numbers = np.arange(3)
    same = (
        features.rows("v0", numbers)["frames/jpeg"]
        == with_saliency.rows("v0", numbers)["frames/jpeg"]
    )
    assert same.all()


def test_shapes_are_what_models_are_built_with(films: Path) -> None:
    features = FrameClips(films, ClipShape(32, 64, 96))
    assert features.shapes == {
        "frames/jpeg": (32, 64, 96, 3),
        "tased/saliency": (HEIGHT // 4, WIDTH // 4),
    }
    assert features.dtype("frames/jpeg") == np.uint8
    assert features.dtype("tased/saliency") == np.float32
    assert features.rows("v0", np.array([3]))["frames/jpeg"].shape == (1, 32, 64, 96, 3)
    assert features.rows("v0", np.zeros(0, np.int64))["frames/jpeg"].shape == (0, 32, 64, 96, 3)


def test_pickled_it_reads_the_same(films: Path) -> None:
    features = FrameClips(films, SHAPE)
    copied = pickle.loads(pickle.dumps(features))  # noqa: S301
    for key, rows in features.rows("v0", np.array([1])).items():
        assert (copied.rows("v0", np.array([1]))[key] == rows).all()


def test_pictures_have_no_mean(films: Path) -> None:
    with pytest.raises(LookupFailed, match="unit is a row"):
        FrameClips(films, SHAPE).segment_means("v0", frame_spans(2))


@pytest.mark.parametrize("content", [b"", b"GIF89a" * 20, b"\xff\xd8\xff\xe0 cut"])
def test_what_is_no_picture_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a JPEG image"):
        decode_resized(np.frombuffer(content, np.uint8), 8, 8)


def test_a_clip_has_a_size() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ClipShape(frames=0)
