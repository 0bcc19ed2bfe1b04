"""Rows of annotated segments from real files show the pictures of their segment."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame, FramesOfSegments
from pipeline.decoding.events import AlignmentEvent, Decoder
from pipeline.decoding.frame_timing import picture_times
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.video_reader import VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.media.container.clock import Clock
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.media_file import Media
from pipeline.media.probe import probe
from pipeline.sampling.segment_alignment import SegmentsOfVideo
from storage.base.paths import Layout
from storage.base.records import Annotation, Video
from storage.catalog.catalog import Catalog
from storage.features.manifest import ManifestEntry
from storage.features.store import FeatureStore
from tests.support.tiny_extractor import tiny_variant
from tests.support.video_cases import CASES, make
from tests.support.videos import BITS, coded_video

FRAMES = 200
B_FRAMES = ("-pix_fmt", "yuv420p", "-bf", "3", "-g", "12")
SPREAD = FramesOfSegments(16, "equal")
RELEASED = FramesOfSegments(16, "released")


@dataclasses.dataclass
class Codes:
    """Reads the number that a coded frame shows; a row is the 16 numbers of its frames."""

    def prepare(self, frame: NDArray[np.uint8]) -> float:
        height, width, _ = frame.shape
        blocks = (
            frame[: height // 2].reshape(height // 2, BITS, width // BITS, 3).mean(axis=(0, 2, 3))
            > 128
        )
        return float((blocks << np.arange(BITS)).sum())

    def extract(self, windows: Sequence[Sequence[Any]]) -> dict[str, list[NDArray[Any]]]:
        return {
            "mean": [
                np.repeat(np.array(window, np.float32)[:, None], 3, axis=1) for window in windows
            ]
        }


def reading(name: str, sampling: FramesOfSegments | ConsecutiveFrames) -> Variant:
    variant = tiny_variant(name, sampling, 1 if sampling == ConsecutiveFrames(1, 1) else 16)
    return dataclasses.replace(
        variant, spec=dataclasses.replace(variant.spec, build=lambda *_: Codes())
    )


def catalog(unit: str, *segments: tuple[float, float], video: Video | None = None) -> Catalog:
    video = video or Video("v")
    rows = tuple(Annotation(video.video_id, f"user{k}", *one) for k, one in enumerate(segments))
    return Catalog("tiny", (video,), (), (), rows, 1, unit)


def built(
    folder: Path, path: Path, known: Catalog, *samplings: FramesOfSegments | ConsecutiveFrames,
    decoder: Decoder | None = None,
) -> list[tuple[Variant, ManifestEntry]]:  # fmt: skip
    """Each sampling as a variant, over one shard of one video; the video's entries."""
    variants = [
        reading(f"v{k}", one).of_catalog(lambda: known.segments)
        for k, one in enumerate(samplings or (SPREAD,))
    ]
    job = ShardJob(
        Layout(folder, "tiny"),
        0,
        tuple(video.video_id for video in known.videos),
        tuple(variants),
        10**6,
    )
    media = Media(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    process_shard(
        job,
        fetch=lambda *_: media,
        decoder=decoder or InlineDecoder(),
        device="cpu",
        on_video=lambda *_: None,
    )
    found = []
    for variant in variants:
        manifest = job.manifest(variant)
        assert manifest is not None
        found.append((variant, manifest.entries["v"]))
    return found


def rows(folder: Path, variant: Variant) -> tuple[list[list[int]], list[int], NDArray[np.float64]]:
    """Frame numbers of each row, the segments they are about, spans."""
    video = FeatureStore(folder / "tiny")[variant.full_name]["v"]
    codes = (
        np.asarray(video["mean"])[:, :, 0].astype(int).tolist() if "mean" in video.arrays else []
    )
    return codes, np.asarray(video["segment"]).tolist(), video.spans


def facts(entry: ManifestEntry) -> dict[str, Any]:
    found = entry.facts["segments"]
    assert isinstance(found, dict)
    return found


def numbers(first: int, behind: int, spread: FramesOfSegments = SPREAD) -> list[int]:
    return [first + k for k in spread.frame_indices(behind - first)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 coded frames with B-frames, 10 a second."""
    return coded_video(tmp_path_factory.mktemp("segments") / "v.mp4", FRAMES, *B_FRAMES)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"raw h264"}))
def test_packets_tell_when_every_picture_of_an_odd_file_is_shown(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, name)
    decoding = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    shown = tuple(frame.pts_seconds for frame in decoding)
    found = picture_times(path, decoding.probe, lambda: None, 1000)
    if path.suffix == ".avi":  # its packets know when pictures are decoded, so the decoder is asked
        assert found is None
        asked = SegmentsOfVideo(2, "equal", "seconds", ((0.5, 1.5),))
        told = next(
            one
            for one in InlineDecoder().decode("v", path, [asked])
            if isinstance(one, AlignmentEvent)
        )
        assert (told.alignment.pictures, told.alignment.outside) == (len(shown), 0)
        return
    assert found is not None
    assert found.times_seconds == shown
    assert found.declared in (None, len(shown))
    if name != "flv":  # its packets have no duration, its decoder makes one up
        assert found.end_seconds == pytest.approx(decoding.summary().end_seconds, abs=1e-9)


def test_of_a_hundred_frames_the_released_form_shows_0_6_to_90(video: Path, tmp_path: Path) -> None:
    known = catalog("frames", (0, 100), (50, 150), (100, 200), video=Video("v", None, 200, 200))
    (equal, _), (released, _) = built(tmp_path, video, known, SPREAD, RELEASED)
    codes, segments, spans = rows(tmp_path, released)
    assert codes == [[start + k for k in range(0, 91, 6)] for start in (0, 50, 100)]
    assert segments == [0, 1, 2]
    np.testing.assert_allclose(spans, [[0, 10], [5, 15], [10, 20]], atol=1e-9)
    assert rows(tmp_path, equal)[0] == [numbers(start, start + 100) for start in (0, 50, 100)]


def test_segments_that_contain_each_other_keep_the_tables_order(
    video: Path, tmp_path: Path
) -> None:
    rng = random.Random(7)
    marks = {(0, 200), (0, 3), (199, 200), (60, 61)}
    marks |= {(start, start + rng.randint(1, 60)) for start in rng.sample(range(140), 40)}
    segments = sorted(marks)
    known = catalog("frames", *segments, video=Video("v", None, 200, 200))
    with SubprocessDecoder() as child:
        ((variant, entry),) = built(tmp_path, video, known, decoder=child)
    codes, found, spans = rows(tmp_path, variant)
    assert codes == [numbers(*one) for one in segments]
    assert found == list(range(len(segments)))
    np.testing.assert_allclose(spans, np.array(segments) / 10, atol=1e-9)
    assert facts(entry) == {
        "annotated": 44,
        "clock": "numbered",
        "detail": "",
        "outside": 0,
        "pictures": 200,
        "rows": 44,
    }


def test_one_decode_feeds_segments_and_clips_alike(video: Path, tmp_path: Path) -> None:
    known = catalog("seconds", (0.5, 19.0), (3.0, 4.0), (25.0, 30.0))
    passes: list[str] = []

    class Counted(InlineDecoder):
        def _open(self, video_id: str, path: Path) -> VideoReader:
            passes.append(video_id)
            return super()._open(video_id, path)

    together = built(
        tmp_path, video, known, SPREAD, ConsecutiveFrames(16, 8), RELEASED, decoder=Counted()
    )
    assert passes == ["v"]
    ((alone, _),) = built(tmp_path / "alone", video, known)
    assert (
        rows(tmp_path, together[0][0])[0]
        == rows(tmp_path / "alone", alone)[0]
        == [numbers(5, 190), numbers(30, 40)]
    )
    assert facts(together[0][1])["outside"] == 1
    assert "segments" not in together[1][1].facts
    clips = FeatureStore(tmp_path / "tiny")[together[1][0].full_name]["v"]
    assert clips.arrays == ("mean",)
    starts = np.asarray(clips["mean"])[:, 0, 0]
    np.testing.assert_array_equal(starts, range(0, 185, 8))


def test_uneven_times_are_the_streams_own(tmp_path: Path) -> None:
    # frame N is shown at 0.1 N + 0.04 (N mod 3): as the case "variable rate mp4", but lossless
    # codes
    jumpy = (
        "-vf",
        "settb=1/1000,setpts=100*N+40*mod(N\\,3)",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "1/1000",
    )
    path = coded_video(tmp_path / "j.mp4", 120, *B_FRAMES, *jumpy)
    ((variant, _),) = built(
        tmp_path, path, catalog("frames", (20, 60), video=Video("v", None, 120, 120))
    )
    codes, _, spans = rows(tmp_path, variant)
    assert codes == [numbers(20, 60)]
    np.testing.assert_allclose(spans, [[2.08, 6.0]], atol=1e-9)  # 20 mod 3 = 2, 60 mod 3 = 0
    ((variant, _),) = built(tmp_path / "s", path, catalog("seconds", (2.08, 6.0)))
    assert rows(tmp_path / "s", variant)[0] == [numbers(20, 60)]


def test_another_frame_rate_is_scaled_and_told(tmp_path: Path) -> None:
    path = coded_video(
        tmp_path / "fast.mp4", 200, *B_FRAMES, fps="20"
    )  # 10 seconds, annotated at 10 a second
    ((variant, entry),) = built(
        tmp_path, path, catalog("frames", (20, 60), video=Video("v", 10.0, 100, 100))
    )
    codes, _, spans = rows(tmp_path, variant)
    assert codes == [numbers(40, 120)]
    np.testing.assert_allclose(spans, [[2.0, 6.0]], atol=1e-9)
    assert facts(entry)["clock"] == "scaled"
    assert facts(entry)["detail"] == "200 pictures, 100 expected, 10.000 s of 10 s claimed"


def test_another_cut_is_rejected_for_segments_alone(video: Path, tmp_path: Path) -> None:
    known = catalog("frames", (20, 60), video=Video("v", 35.0, 350, 350))
    (_, segments), (_, clips) = built(tmp_path, video, known, SPREAD, ConsecutiveFrames(16, 16))
    assert segments.status.reason == "misaligned"
    assert segments.status.detail == "200 pictures, 350 expected, 20.000 s of 35 s claimed"
    assert facts(segments) == {
        "annotated": 1, "clock": "misaligned", "detail": segments.status.detail,
        "outside": 0, "pictures": 200,
        "rows": 0,
    }  # fmt: skip
    assert clips.is_done


@pytest.mark.parametrize("segments", [(), ((20.0, 21.0), (400.0, 500.0))])
def test_a_video_without_a_segment_in_it_says_so(
    segments: tuple[tuple[float, float], ...], video: Path, tmp_path: Path
) -> None:
    ((_, entry),) = built(tmp_path, video, catalog("seconds", *segments))
    assert entry.status.reason == "no_segment"
    assert entry.status.detail == f"{len(segments)} annotated, {len(segments)} outside the file"


def test_pictures_that_do_not_decode_shift_no_number(tmp_path: Path) -> None:
    """Every packet of the middle third is overwritten: it decodes to nothing, or to an error."""
    path = coded_video(tmp_path / "v.mp4", FRAMES, "-pix_fmt", "yuv420p", "-bf", "0", "-g", "10")
    start, length = packets_between(path, 60, 130)
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    known = catalog(
        "frames", (0, 50), (40, 150), (70, 90), (150, 200), video=Video("v", 20.0, 200, 200)
    )
    ((variant, entry),) = built(tmp_path, path, known)
    decode = entry.facts["decode"]
    assert isinstance(decode, dict)
    assert decode["frames_decoded"] in range(120, 150)
    assert facts(entry) == {
        "annotated": 4, "clock": "numbered", "detail": "", "outside": 0, "pictures": 200, "rows": 4,
    }  # fmt: skip
    codes, found, spans = rows(tmp_path, variant)
    assert found == [0, 1, 2, 3]
    np.testing.assert_allclose(spans, [[0, 5], [4, 15], [7, 9], [15, 20]], atol=1e-9)
    ((every, _),) = built(tmp_path / "every", path, known, ConsecutiveFrames(1, 1))
    decoded = np.asarray(FeatureStore(tmp_path / "every" / "tiny")[every.full_name]["v"]["mean"])[
        :, 0, 0
    ]
    assert not set(range(60, 130)) & set(decoded)
    for row, segment in zip(codes, ((0, 50), (40, 150), (70, 90), (150, 200)), strict=True):
        assert row == [max(n for n in decoded if n <= number) for number in numbers(*segment)], (
            "what is on the screen"
        )
    assert [codes[0], codes[2], codes[3]] == [numbers(0, 50), [59] * 16, numbers(150, 200)]


def packets_between(path: Path, first: int, behind: int) -> tuple[int, int]:
    """Where the packets of frames `[first, behind)` lie in a file, and how many bytes that is."""
    import av

    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos or 0, packet.size) for packet in packets[first:behind]]
    return places[0][0], places[-1][0] + places[-1][1] - places[0][0]


def test_a_cut_file_keeps_what_it_has(tmp_path: Path) -> None:
    whole = coded_video(tmp_path / "w.mp4", FRAMES, *B_FRAMES, "-movflags", "+faststart")
    path = tmp_path / "v.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    known = catalog("frames", (0, 50), (10, 190), (170, 200), video=Video("v", 20.0, 200, 200))
    ((variant, entry),) = built(tmp_path, path, known)
    codes, found, spans = rows(tmp_path, variant)
    assert codes[0] == numbers(0, 50)
    assert found == [0, 1]
    assert facts(entry)["clock"] == "numbered"
    assert facts(entry)["outside"] + facts(entry)["rows"] == 3
    assert spans[1][0] == pytest.approx(1.0)
    assert 9 < spans[1][1] < 15


def test_where_packets_do_not_say_a_decoding_counts(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalog("frames", (30, 77), (50, 60), video=Video("v", None, 200, 200))
    ((variant, entry),) = built(tmp_path / "one", video, known)
    monkeypatch.setattr("pipeline.decoding.inline_decoder.picture_times", lambda *_: None)
    ((other, counted),) = built(tmp_path / "two", video, known)
    assert counted.digest == entry.digest
    assert (
        rows(tmp_path / "two", other)[0]
        == rows(tmp_path / "one", variant)[0]
        == [numbers(30, 77), numbers(50, 60)]
    )


def test_packets_beyond_the_limit_are_left_to_the_decoder(video: Path, tmp_path: Path) -> None:
    assert picture_times(video, probe("v", video, DEFAULT_LIMITS), lambda: None, 100) is None
    few = InlineDecoder(limits=dataclasses.replace(DEFAULT_LIMITS, max_frames=100))
    ((_, entry),) = built(tmp_path, video, catalog("seconds", (0, 1)), decoder=few)
    assert entry.status.reason == "too_long"


def test_two_packets_of_one_time_are_not_believed(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe("v", video, DEFAULT_LIMITS)
    assert picture_times(video, found, lambda: None, 200) is not None
    monkeypatch.setattr(Clock, "at", lambda _, ticks: float(ticks // 2048))
    assert picture_times(video, found, lambda: None, 200) is None


def test_child_and_inline_tell_the_same(video: Path) -> None:
    sampling = reading("s", SPREAD).of_catalog(
        lambda: catalog("frames", (5, 90), (7, 9), video=Video("v", 20.0, 200, 200)).segments
    )
    asked = [sampling.sampling_of("v"), EveryFrame()]
    with SubprocessDecoder() as child:
        theirs = [one for one in child.decode("v", video, asked) if not hasattr(one, "rgb")]
    ours = [one for one in InlineDecoder().decode("v", video, asked) if not hasattr(one, "rgb")]
    assert theirs == ours
    assert isinstance(ours[0], AlignmentEvent)


def test_real_clips_give_the_frames_of_their_times(shared_data: Path, tmp_path: Path) -> None:
    """Segments of 2.5 s, half overlapping: 16 frames at floor(k n / 16) of those in ffprobe."""
    for name in ("flipping_a_pancake.mkv", "v_GGSY1Qvo990.mp4"):
        path = shared_data / "videos" / name
        decoding = VideoReader(
            "v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None
        )
        times = [frame.pts_seconds for frame in decoding]
        segments = [(k * 1.25, k * 1.25 + 2.5) for k in range(6)]
        asked = (
            reading("s", SPREAD)
            .of_catalog(lambda: catalog("seconds", *segments).segments)  # noqa: B023  called in this round
            .sampling_of("v")
        )
        windows = [
            one.window
            for one in InlineDecoder().decode("v", path, [asked])
            if hasattr(one, "window")
        ]
        for window, (start, end) in zip(windows, segments, strict=True):
            inside = [
                i
                for i, t in enumerate(times)
                if (*times[1:], np.inf)[i] > start + 1e-9 and t < end - 1e-9
            ]
            assert list(window.frame_indices) == [inside[k * len(inside) // 16] for k in range(16)]


def test_a_variant_without_its_catalog_says_what_it_lacks() -> None:
    with pytest.raises(
        ValueError, match="v has a row for each annotated segment: call of_catalog first"
    ):
        reading("v", SPREAD).fingerprint()
