from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import FeatureStore
from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import VariantLayout
from storage.base.records import FeatureTrack, Ragged
from storage.base.video_status import State
from storage.features import manifest_index
from storage.features.lazy_arrays import ArrayHandle
from storage.features.store import VariantReader
from tests.support.feature_samples import (
    PROVENANCE,
    SETTINGS,
    commit_tracks,
    make_store,
    make_track,
    same,
    variant_layout,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

TRACK = make_track("v007", 3 + 7)


@pytest.fixture
def layout(tmp_path: Path) -> VariantLayout:
    return make_store(tmp_path)


@pytest.fixture
def reader(layout: VariantLayout) -> VariantReader:
    return FeatureStore(layout.folder.parents[1], verify=True)["c3d"]


def test_three_lines_give_arrays_and_spans(layout: VariantLayout) -> None:
    video = FeatureStore(str(layout.folder.parents[1]))["c3d"]["v007"]
    assert same(video.track(), TRACK)
    assert video.arrays == ("boxes", "nobody", "pool5")
    assert video.spans.tobytes() == TRACK.spans.tobytes()
    assert np.asarray(video["pool5"]).tobytes() == np.asarray(TRACK.arrays["pool5"]).tobytes()


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(2, 5),
        slice(5, 2),
        slice(-3, None),
        slice(0, 99),
        slice(None, None, 3),
        slice(None, None, -2),
    ],
    ids=str,
)
def test_slices_mean_what_they_mean_in_numpy(reader: VariantReader, rows: slice) -> None:
    expected = np.asarray(TRACK.arrays["pool5"])[rows]
    found = reader["v007"]["pool5"][rows]
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype, found.tobytes()) == (
        expected.shape,
        expected.dtype,
        expected.tobytes(),
    )


def test_rows_by_number(reader: VariantReader) -> None:
    video = reader["v007"]
    expected = TRACK.arrays["boxes"]
    assert isinstance(expected, Ragged)
    assert np.array_equal(np.asarray(video["pool5"][-1]), np.asarray(TRACK.arrays["pool5"])[9])
    for row in range(10):
        assert np.array_equal(
            np.asarray(video["boxes"][row]),
            expected.values[expected.offsets[row] : expected.offsets[row + 1]],
        )
    for row in (10, -11):
        with pytest.raises(IndexError):
            video["pool5"][row]


def test_ragged_arrays_answer_as_ragged_and_never_as_one_array(reader: VariantReader) -> None:
    boxes = reader["v007"]["boxes"]
    some = boxes[2:6]
    expected = TRACK.arrays["boxes"]
    assert isinstance(some, Ragged)
    assert isinstance(expected, Ragged)
    assert some.lengths.tolist() == expected.lengths[2:6].tolist()
    with pytest.raises(TypeError, match="boxes is ragged, so it cannot be one array"):
        np.asarray(boxes)
    with pytest.raises(IndexError, match="step 1"):
        boxes[::2]
    with pytest.raises(ValueError, match="always copies"):
        np.asarray(reader["v007"]["pool5"], copy=False)


def test_handles_tell_what_they_are(reader: VariantReader) -> None:
    video = reader["v007"]
    assert repr(video) == "VideoHandle(v007, 10 rows, boxes, nobody, pool5)"
    assert repr(video["pool5"]) == "ArrayHandle(pool5, float16 (10, 6))"
    assert repr(video["boxes"]) == "ArrayHandle(boxes, float32 (10,))"
    assert np.asarray(video["pool5"], dtype=np.float64).dtype == np.float64
    assert reader.entry("v007").facts == {"frames": 160}


def test_a_variant_is_a_mapping_of_what_is_done(reader: VariantReader) -> None:
    done = [f"v{number:03d}" for number in range(3, 12)]
    assert list(reader) == list(reader.ids) == done
    assert len(reader) == 9
    assert ("v007" in reader, "v000" in reader, "x" in reader) == (True, False, False)
    assert [str(reader.statuses[video_id]) for video_id in ("v000", "v001", "v003")] == [
        "unavailable:private",
        "rejected:too_short (3 frames)",
        "done",
    ]
    assert reader.settings == SETTINGS
    assert reader.provenance == {0: PROVENANCE, 1: PROVENANCE}
    assert sum(manifest.counts[State.DONE] for manifest in reader.manifests.values()) == 9
    assert reader.get("v000") is None


@pytest.mark.parametrize(
    ("video_id", "message"),
    [
        ("v000", r"c3d-\w{12}: v000 is unavailable:private; "),
        ("v001", r"v001 is rejected:too_short \(3 frames\); "),
        ("nobody", "has no video 'nobody'; it has 9 videos"),
    ],
)
def test_a_video_that_is_not_there_says_why(
    reader: VariantReader, video_id: str, message: str
) -> None:
    with pytest.raises(LookupFailed, match=message):
        reader[video_id]
    with pytest.raises(LookupFailed, match="no array 'fc6'; it has boxes, nobody, pool5"):
        reader["v007"]["fc6"]


def test_a_short_name_answers_only_if_one_variant_has_it(layout: VariantLayout) -> None:
    store = FeatureStore(layout.folder.parents[1])
    root = layout.folder.parents[2]
    variant_layout(root, {"extractor": "yolov5"}, "yolov5")
    assert len(store.variants()) == 2
    assert store["c3d"].fingerprint == layout.fingerprint
    finer = variant_layout(
        root, {"extractor": "c3d", "settings": {"stride_frames": 8}, "extra": True}
    )
    with pytest.raises(LookupFailed, match="2 variants named 'c3d'") as caught:
        store["c3d"]
    text = str(caught.value)
    assert f"{finer.folder.name}  extra=True, settings.stride_frames=8" in text
    assert f"{layout.folder.name}  extra=None, settings.stride_frames=16" in text
    assert "extractor=" not in text
    assert store[finer.folder.name].settings["extra"] is True
    with pytest.raises(LookupFailed, match="has no variant 'tased'; it has c3d-"):
        store["tased"]
    with pytest.raises(LookupFailed, match="it has nothing yet"):
        FeatureStore(root / "empty")["c3d"]


def _digests(reader: VariantReader, handle: ArrayHandle) -> tuple[str, bytes]:
    return reader["v007"].track().digest(), np.asarray(handle).tobytes()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_readers_and_handles_travel_after_they_were_used(
    reader: VariantReader, method: str
) -> None:
    handle = reader["v007"]["pool5"]
    expected = (TRACK.digest(), np.asarray(TRACK.arrays["pool5"]).tobytes())
    assert _digests(reader, handle) == expected
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_digests, (reader, handle)) == expected
    assert _digests(*pickle.loads(pickle.dumps((reader, handle)))) == expected  # noqa: S301 - made on this line


@pytest.mark.parametrize(
    ("damage", "verify", "message"),
    [
        ("lose", False, "is missing; run `python -m storage audit --repair "),
        ("cut", False, "bytes, its manifest says"),
        ("flip", True, "was altered: its sha256"),
        (
            "flip",
            False,
            r"block 0 \(bytes 0 to .*run `python -m storage audit --repair /.*/sample`",
        ),
        ("other part", False, "bytes, its manifest says|not what was written"),
        ("other shard", False, "bytes, its manifest says|not what was written"),
    ],
)
def test_a_part_that_is_not_the_recorded_one_is_never_read(
    layout: VariantLayout, damage: str, verify: bool, message: str
) -> None:
    reader = FeatureStore(layout.folder.parents[1], verify=verify)["c3d"]
    entry = next(
        manifest.entries["v007"]
        for manifest in reader.manifests.values()
        if "v007" in manifest.entries
    )
    path = layout.folder / entry.part
    content = bytearray(path.read_bytes())
    same_shard = [
        other for other in sorted(layout.folder.glob(f"{path.name[:9]}*.h5")) if other != path
    ]
    other_shard = [
        other for other in sorted(layout.folder.glob("*.h5")) if other.name[:9] != path.name[:9]
    ]
    content[-5] ^= 1
    substitute = {
        "cut": bytes(content[:-1]),
        "flip": bytes(content),
        "other part": same_shard[0].read_bytes(),
        "other shard": other_shard[0].read_bytes(),
        "lose": b"",
    }[damage]
    path.write_bytes(substitute)
    if damage == "lose":
        path.unlink()
    with pytest.raises((IntegrityError, LookupFailed), match=message):
        reader["v007"].track()


def test_a_part_of_equal_size_but_other_rows_is_noticed_without_reading_the_rows(
    tmp_path: Path,
) -> None:
    layouts = [variant_layout(tmp_path / name) for name in ("today", "yesterday")]
    for layout, salt in zip(layouts, ("", "old"), strict=True):
        commit_tracks(layout, [_same_size("v0", salt)])
    paths = [layout.part(0, 0) for layout in layouts]
    assert paths[0].stat().st_size == paths[1].stat().st_size
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(IntegrityError, match="its rows of v0 are not those of the manifest"):
        VariantReader(layouts[0], check=False)["v0"]
    with pytest.raises(IntegrityError, match="not what was written"):
        VariantReader(layouts[0])["v0"]


def _same_size(video_id: str, salt: str) -> FeatureTrack:
    track = make_track(video_id, 4, salt)
    return FeatureTrack(video_id, track.spans, {"pool5": track.arrays["pool5"]})


@pytest.mark.parametrize("what", ["missing", "flipped", "another part's"])
def test_checksums_that_are_not_the_recorded_ones_are_never_trusted(
    layout: VariantLayout, what: str
) -> None:
    reader = FeatureStore(layout.folder.parents[1])["c3d"]
    path = layout.checksums(reader.entry("v007").part)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    other = next(one for one in sorted(layout.folder.glob("*.sums")) if one != path)
    path.write_bytes(bytes(content) if what == "flipped" else other.read_bytes())
    if what == "missing":
        path.unlink()
    with pytest.raises(IntegrityError, match="audit --repair") as caught:
        reader["v007"]
    assert caught.value.path == path
    assert same(FeatureStore(layout.folder.parents[1], check=False)["c3d"]["v007"].track(), TRACK)


def _ask(reader: VariantReader) -> str:
    try:
        reader["v007"].track()
    except IntegrityError as error:
        return str(error)
    return "nothing was noticed"


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_reader_that_travelled_checks_for_itself(layout: VariantLayout, method: str) -> None:
    reader = FeatureStore(layout.folder.parents[1])["c3d"]
    path = layout.folder / reader.entry("v007").part
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert "is not what was written" in pool.apply(_ask, (reader,))
    assert "is not what was written" in _ask(pickle.loads(pickle.dumps(reader)))  # noqa: S301 - made on this line


def test_a_lost_manifest_is_an_error_and_not_fewer_videos(layout: VariantLayout) -> None:
    """Whether its parts tell of it, or the index, or both; a shard that was never built is none."""
    folder = layout.folder.parents[1]
    manifest = layout.manifest(1).read_bytes()
    for index_knows, parts_know in [(True, True), (True, False), (False, True)]:
        manifest_index.refresh_index(layout)
        kept = {path: path.read_bytes() for path in sorted(layout.folder.glob("shard_001.*"))}
        for path in kept:
            if parts_know is False or path == layout.manifest(1):
                path.unlink()
        if not index_knows:
            layout.index_file.unlink()
        for ask in (len, lambda reader: reader.manifests, lambda reader: reader["v007"]):
            with pytest.raises(IntegrityError, match=r"is lost: .*audit --repair"):
                ask(FeatureStore(folder)["c3d"])
        with pytest.raises(IntegrityError, match="is lost"):
            manifest_index.read_summary(layout, 1)
        for path, content in kept.items():
            path.write_bytes(content)
    assert layout.manifest(1).read_bytes() == manifest
    for path in layout.folder.glob("shard_001*"):
        path.unlink()
    assert 0 < len(FeatureStore(folder)["c3d"]) < 9  # the store of a run of `--shards 0`
    assert manifest_index.read_summary(layout, 1) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "it is unknown how"),
        (b"{", "is not valid JSON"),
        (b'{"a":1}', "has the fingerprint"),
        (b"[]", "is not a JSON object"),
    ],
)
def test_settings_that_are_not_the_folders_are_refused(
    layout: VariantLayout, content: bytes | None, message: str
) -> None:
    if content is None:
        layout.settings_file.unlink()
    else:
        layout.settings_file.write_bytes(content)
    # A repair cannot bring back what is gone.
    advice = "writes it anew" if content is None else f"audit --repair {layout.folder.parents[1]}"
    with pytest.raises(IntegrityError, match=f"{message}.*{advice}"):
        _ = VariantReader(layout).settings


def test_the_package_offers_the_store_and_nothing_it_lacks() -> None:
    assert storage.FeatureStore is FeatureStore
    with pytest.raises(AttributeError, match="no attribute 'Store'"):
        _ = storage.__getattr__("Store")
