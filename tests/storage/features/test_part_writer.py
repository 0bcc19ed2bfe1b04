from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.records import JSON, Array, FeatureTrack, Ragged
from storage.features.part_reader import PartTable, bytes_fetcher
from storage.features.part_writer import PartReader, part_image, write_part
from storage.files.hdf5 import read_layout
from tests.support.feature_samples import HEADER, make_track, race, same

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

TRACKS = [make_track("-dash", 1), make_track("Upper", 40), make_track("upper", 7)]
RECORDS: dict[str, JSON] = {"entries": {"Upper": {"rows": 40}}, "note": "ä \u0000"}


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part.h5"
    write_part(path, HEADER, TRACKS, RECORDS)
    return path


def test_what_is_written_is_what_is_read(part: Path) -> None:
    reader = PartReader(part)
    assert reader.header == HEADER
    assert reader.ids() == ("-dash", "Upper", "upper")
    assert reader.table.records() == RECORDS
    assert reader.table.row_count == 1 + 40 + 7
    for track in TRACKS:
        assert same(reader.track(track.video_id), track)
        assert (
            reader.digest(track.video_id)
            == reader.table.stored_digest(track.video_id)
            == track.digest()
        )


def test_plain_h5py_reads_a_part_by_its_documented_format(part: Path) -> None:
    with h5py.File(part, "r") as file:
        assert file.attrs["format"] == b"video-highlights part"
        index = file["ids"][:].tolist().index(b"Upper")
        start, end = file["offsets"][index : index + 2]
        pool5, spans = file["arrays/pool5"][start:end], file["spans"][start:end]
        first, last = file["arrays/boxes/offsets"][[start, end]]
        boxes = file["arrays/boxes/values"][first:last]
        entries = json.loads(file["records"][:].tobytes())["entries"]
    expected = TRACKS[1].arrays["boxes"]
    assert pool5.tobytes() == np.asarray(TRACKS[1].arrays["pool5"]).tobytes()
    assert spans.tobytes() == TRACKS[1].spans.tobytes()
    assert isinstance(expected, Ragged)
    assert boxes.tobytes() == expected.values.tobytes()
    assert entries == {"Upper": {"rows": 40}}


def test_every_array_is_contiguous_at_a_place_where_a_file_can_be_mapped(part: Path) -> None:
    with h5py.File(part, "r") as file:
        pool5 = file["arrays/pool5"]
        assert pool5.chunks is None
        assert pool5.compression is None
        mapped = np.memmap(part, pool5.dtype, "r", pool5.id.get_offset(), pool5.shape)
    assert mapped[:1].tobytes() == np.asarray(TRACKS[0].arrays["pool5"]).tobytes()


def test_equal_tracks_give_equal_bytes_in_another_process(part: Path) -> None:
    code = (
        "import sys, hashlib, pathlib; from tests.support.feature_samples import *;"
        "from storage.features.part_writer import part_image;"
        "tracks = [make_track('-dash', 1), make_track('Upper', 40), make_track('upper', 7)];"
        "records = {'note': 'ä \\0', 'entries': {'Upper': {'rows': 40}}};"
        "print(hashlib.sha256(part_image(pathlib.Path('p'), HEADER, tracks, records)).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert other.stdout.strip() == hashlib.sha256(part.read_bytes()).hexdigest()


DTYPES = [np.dtype(name) for name in ("<f2", "<f4", "<i8", "|u1", ">f4")]
SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 3))


@st.composite
def tracks_of_one_form(draw: st.DrawFn) -> list[FeatureTrack]:
    values = draw(npst.arrays(draw(st.sampled_from(DTYPES)), SHAPES))
    ids = sorted(
        draw(st.sets(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), min_size=1, max_size=3))
    )
    return [_drawn_track(draw, video_id, values) for video_id in ids]


def _drawn_track(draw: st.DrawFn, video_id: str, values: Array) -> FeatureTrack:
    cuts = sorted(draw(st.lists(st.integers(0, len(values)), max_size=5)))
    lengths = np.diff([0, *cuts, len(values)]).astype(np.int64)
    starts = np.array(
        draw(st.lists(st.floats(-1e6, 1e6), min_size=len(lengths), max_size=len(lengths)))
    )
    fixed = (
        np.resize(values, (len(lengths), 2))
        if values.size
        else np.zeros((len(lengths), 2), values.dtype)
    )
    arrays: dict[str, Array | Ragged] = {
        "ragged": Ragged(values, lengths),
        "fixed": fixed,
        "flat": np.arange(len(lengths)),
    }
    return FeatureTrack(video_id, np.stack([starts, starts + 1.5], 1), arrays)


@settings(max_examples=40, deadline=None)
@given(tracks_of_one_form())
def test_any_track_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, tracks: list[FeatureTrack]
) -> None:
    path = tmp_path_factory.mktemp("part") / "part.h5"
    write_part(path, HEADER, tracks, {})
    reader = PartReader(path)
    assert [same(reader.track(track.video_id), track) for track in tracks] == [True] * len(tracks)


def _strange(name: str) -> list[FeatureTrack]:
    one = make_track("a", 2)
    arrays: dict[str, Array] = {
        "object": np.array(["x", None], object),
        "text": np.array(["x", "y"]),
        "bool": np.array([True, False]),
        "complex": np.array([1j, 2j]),
    }
    return {
        "none": [],
        "twice": [one, one],
        "descending": [make_track("b", 2), one],
        "no rows": [FeatureTrack("a", np.zeros((0, 2)), {})],
        "other arrays": [one, FeatureTrack("b", one.spans, {"pool5": one.arrays["pool5"]})],
        "other dtype": [
            FeatureTrack(name, one.spans, {"x": np.zeros(2, dtype)}) for name, dtype in ("af", "bd")
        ],
        "bad id": [FeatureTrack("../etc", one.spans, {})],
        "bad array name": [FeatureTrack("a", one.spans, {"a/b": np.zeros(2)})],
        **{kind: [FeatureTrack("a", one.spans, {"x": array})] for kind, array in arrays.items()},
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "at least one video"),
        ("twice", "ascending order: a follows a"),
        ("descending", "ascending order: a follows b"),
        ("no rows", "feature arrays are empty"),
        ("other arrays", "b has the arrays"),
        ("other dtype", "b has the arrays"),
        ("bad id", "a video id is 1 to 64"),
        ("bad array name", "an array's name is"),
        ("object", "x is object; parts hold integers and floats"),
        ("text", "x is <U1; parts hold"),
        ("bool", "x is bool; parts hold"),
        ("complex", "x is complex128; parts hold"),
    ],
)
def test_what_has_no_place_in_a_part_is_refused_before_anything_is_written(
    name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        part_image(Path("part.h5"), HEADER, _strange(name), {})


def _digest_of_upper(reader: PartReader) -> str:
    return reader.digest("Upper")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_an_open_reader_travels_to_other_processes(part: Path, method: str) -> None:
    reader = PartReader(part)
    expected = reader.digest("Upper")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_digest_of_upper, (reader,)) == expected
    assert pickle.loads(pickle.dumps(reader)).digest("Upper") == expected  # noqa: S301 - made one line above
    assert reader.digest("Upper") == expected


def test_one_reader_serves_parent_children_and_threads_at_once(part: Path) -> None:
    reader = PartReader(part)
    expected = {track.video_id: track.digest() for track in TRACKS}
    wrong: list[str] = []

    def read() -> None:
        wrong.extend(v for _ in range(30) for v in expected if reader.digest(v) != expected[v])

    reader.digest("Upper")
    codes = race(
        3, lambda _: int(any(reader.digest(v) != expected[v] for _ in range(30) for v in expected))
    )
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (codes, wrong) == ([0, 0, 0], [])


def test_a_slice_reads_its_rows_and_no_others(part: Path) -> None:
    fetched: list[int] = []
    content = part.read_bytes()

    def fetch(offset: int, buffer: memoryview) -> None:
        fetched.append(len(buffer))
        bytes_fetcher(content)(offset, buffer)

    table = PartTable(part, read_layout(part), fetch)
    fetched.clear()
    table.rows("pool5", 3, 5)
    assert fetched == [2 * 6 * 2]  # two rows of six float16
    table.rows("boxes", 3, 5)
    assert fetched[1] == 3 * 8  # three int64 offsets bound two rows
    with pytest.raises(IndexError, match=r"has 48 rows, asked for \[47, 49\)"):
        table.rows("pool5", 47, 49)


def test_unknown_names_are_told_with_the_known_ones(part: Path) -> None:
    with pytest.raises(LookupFailed, match="no video 'nobody'; it has 3 others"):
        PartReader(part).track("nobody")
    with pytest.raises(LookupFailed, match="no array 'fc6'; it has boxes, nobody, pool5"):
        PartReader(part).table.rows("fc6", 0, 1)


def test_a_part_that_is_replaced_under_a_reader_is_noticed(part: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="cannot be opened: No such file"):
        PartReader(tmp_path / "absent.h5").ids()
    reader = PartReader(part)
    assert reader.ids()
    part.write_bytes(part.read_bytes()[:3000])
    with pytest.raises(IntegrityError, match=r"ends at byte|was replaced"):
        reader.track("upper")
