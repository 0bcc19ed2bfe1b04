"""Five real extractors over one store: three are added later, and each run decodes once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.extractors.c3d.settings import C3DSettings
from models.extractors.jpeg_frames.settings import FramesSettings
from models.extractors.keypoint_rcnn.settings import KeypointRCNNSettings
from models.extractors.registry import EXTRACTORS
from models.extractors.tased.settings import TasedSettings
from models.extractors.yolov5.settings import YOLOv5Settings
from pipeline.decoding import video_reader
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.decoding.backends.pyav import pyav_frames
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.media.container.packets import Tally
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.media_file import Media
from pipeline.media.probe import Probe
from pipeline.synthetic.user_videos import write_sample
from pipeline.synthetic.user_videos_plan import SampleSize
from storage.base.paths import Layout
from storage.base.records import Annotation, Video
from storage.catalog.catalog import Catalog
from storage.features.store import FeatureStore

TINY = SampleSize((("train", 2),), 3, (1.0, 1.2), width=96, height=72, pool=2)
"""Two videos of about 3.3 seconds."""
FIRST = {
    "c3d": C3DSettings(arrays=("fc6",), stride_frames=16),
    "frames": FramesSettings(frames_per_second=2.0),
}
LATER = {
    "yolov5": YOLOv5Settings(size="n", frames_per_second=0.5, input_pixels=64),
    "keypoint_rcnn": KeypointRCNNSettings(
        frames_per_second=0.1, min_size_pixels=64, max_size_pixels=96
    ),
    "tased": TasedSettings(frames_per_second=0.1),
}


def variant(name: str, settings: object) -> Variant:
    spec = EXTRACTORS[name.partition(".")[0]]
    return Variant(name, spec, settings, "random:0" if spec.needs_weights else "")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts frames of the real decoder by file: decoding a file twice counts each twice."""
    counts: Counter[str] = Counter()

    def counted(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
        for frame in pyav_frames(path, probed, tally):
            counts[path.stem] += 1
            yield frame

    monkeypatch.setitem(video_reader.BACKENDS, "counted", counted)
    return counts


@pytest.mark.slow
def test_three_later_extractors_touch_no_file_and_decode_each_video_once(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    sources = tmp_path / "sources"
    write_sample(sources, TINY)
    files = {path.stem: path for path in sorted(sources.glob("*.mp4"))}
    lengths = {video_id: frames_of(path) for video_id, path in files.items()}
    layout = Layout(tmp_path / "data", "tiny")
    marks = tuple(Annotation(video_id, "one", 0.5, 2.5) for video_id in files)
    known = Catalog("tiny", tuple(map(Video, files)), (), (), marks, 1, "seconds")

    def build(*names: str) -> None:
        settings = {
            **FIRST,
            **LATER,
            "c3d.segments": C3DSettings(arrays=("fc6",), sampling="segments"),
        }
        variants = tuple(
            variant(name, settings[name]).of_catalog(lambda: known.segments) for name in names
        )
        process_shard(
            ShardJob(layout, 0, tuple(sorted(files)), variants, 10**7),
            fetch=lambda video_id, _: media(files[video_id]),
            decoder=InlineDecoder("counted"),
            device="cpu",
            on_video=lambda *_: None,
        )

    build(*FIRST)
    assert decoded == lengths
    before = {path: path.read_bytes() for path in layout.folder.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in before}
    decoded.clear()
    build(*FIRST, *LATER)
    assert decoded == lengths, "once for all three, and not at all for the two that were there"
    assert {path: path.read_bytes() for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in before} == times
    decoded.clear()
    build(*FIRST, *LATER)
    assert not decoded
    build("c3d.segments", "frames")
    assert decoded == lengths, "segments are placed by packets, which are not decoded"
    store = FeatureStore(layout.folder)
    assert {name.partition("-")[0] for name in store.variants()} == {*FIRST, *LATER, "c3d.segments"}
    for name in store.variants():
        assert sorted(store[name].ids) == sorted(files)
    rows = np.asarray(store["c3d.segments"][min(files)]["segment"])
    assert rows.tolist() == [0]


def frames_of(path: Path) -> int:
    return sum(
        1
        for _ in video_reader.VideoReader(
            "v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None
        )
    )


def media(path: Path) -> Media:
    return Media(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
