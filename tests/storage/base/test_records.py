from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.base.records import Array, FeatureTrack, Link, Ragged, Video
from tests.support.feature_samples import make_track

SPANS = np.array([[0.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize("video_id", ["-dash", "_", "A" * 64, "0123456789a"])
def test_ids_as_the_web_has_them_are_taken(video_id: str) -> None:
    assert Video(video_id).video_id == video_id


@pytest.mark.parametrize(
    "video_id", ["", "A" * 65, "../x", "a b", "a\n", "é", "a\x00", "a/b", "a.b"]
)
def test_ids_that_could_leave_their_folder_are_refused(video_id: str) -> None:
    with pytest.raises(ValueError, match="a video id is 1 to 64"):
        Video(video_id)


def test_a_link_has_one_of_two_roles() -> None:
    assert [Link("u", "v", role).role for role in ("history", "target")] == ["history", "target"]
    with pytest.raises(ValueError, match="'history' or 'target', got 'other'"):
        Link("u", "v", "other")


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([1, 1]), "add up to 2, but there are 3 items"),
        (np.array([4, -1]), "lengths must be 0 or more, got -1"),
        (np.array([3], np.int32), "lengths are int64"),
        (np.array([[3]]), "lengths are int64"),
    ],
)
def test_lengths_that_do_not_fit_their_items_are_refused(lengths: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ragged(np.zeros((3, 2)), lengths)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_offsets_are_the_running_sums_of_lengths(lengths: list[int]) -> None:
    ragged = Ragged(np.zeros((sum(lengths), 4), np.float32), np.array(lengths, np.int64))
    assert ragged.offsets.tolist() == [sum(lengths[:row]) for row in range(len(lengths) + 1)]
    assert len(ragged) == len(lengths)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (SPANS.astype(np.float32), "spans are float64"),
        (SPANS[0], "spans are float64"),
        (np.array([[0.0, np.nan]]), "finite with start < end"),
        (np.array([[0.0, np.inf]]), "finite with start < end"),
        (np.array([[1.0, 1.0]]), "finite with start < end"),
    ],
)
def test_spans_are_finite_half_open_seconds(spans: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureTrack("v", spans, {})


def test_every_array_has_the_rows_of_the_spans() -> None:
    with pytest.raises(ValueError, match="v: x has 3 rows, spans have 2"):
        FeatureTrack("v", SPANS, {"x": np.zeros(3)})


def test_a_digest_is_sha256_over_names_types_shapes_and_bytes() -> None:
    values = np.array([[1, 2], [3, 4]], np.uint8)
    sha = hashlib.sha256(b"v")
    sha.update(b"\0spans\0<f8\0(2, 2)\0" + SPANS.tobytes())
    sha.update(b"\0x\0|u1\0(2, 2)\0" + bytes([1, 2, 3, 4]))
    assert FeatureTrack("v", SPANS, {"x": values}).digest() == sha.hexdigest()
    assert FeatureTrack("v", SPANS, {"x": np.asfortranarray(values)}).digest() == sha.hexdigest()


def test_every_change_changes_the_digest() -> None:
    boxes = Ragged(np.zeros((3, 4), np.float32), np.array([1, 0, 2]))
    track = replace(
        make_track("v", 3), arrays={"pool5": make_track("v", 3).arrays["pool5"], "boxes": boxes}
    )
    pool5 = np.asarray(track.arrays["pool5"])
    changed = [
        replace(track, video_id="w"),
        replace(track, spans=track.spans + 0.5),
        replace(track, arrays={**track.arrays, "pool5": pool5.astype(np.float32)}),
        replace(track, arrays={**track.arrays, "pool5": pool5.reshape(3, 3, 2)}),
        replace(track, arrays={**track.arrays, "pool5": -pool5}),
        replace(
            track, arrays={**track.arrays, "boxes": Ragged(boxes.values, np.roll(boxes.lengths, 1))}
        ),
        replace(
            track,
            arrays={
                "other" if name == "pool5" else name: array for name, array in track.arrays.items()
            },
        ),
    ]
    assert len({item.digest() for item in [track, *changed]}) == 1 + len(changed)


def test_a_track_knows_its_size() -> None:
    ragged = Ragged(np.zeros((5, 4), np.float32), np.array([2, 3]))
    track = FeatureTrack("v", SPANS, {"x": np.zeros((2, 3), np.float16), "boxes": ragged})
    assert track.nbytes == 2 * 2 * 8 + 2 * 3 * 2 + 5 * 4 * 4 + 2 * 8
    assert track.rows == 2
    assert (
        repr(track)
        == "FeatureTrack(v, 2 rows, boxes=Ragged(2 rows, 5 items of float32(4,)), x=float16(2, 3))"
    )
