"""A whole shard with small networks: every id gets a status, nothing is repeated or lost."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from models.extractors.base.sampling import (
    ConsecutiveFrames,
    EveryFrame,
    FramesAtRate,
    FramesAtRateWithHistory,
)
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from storage.base.errors import SystemicFault, VideoError
from storage.base.paths import Layout
from storage.base.video_status import VideoStatus, failure_status
from storage.features.commit import request_retry
from storage.features.manifest import logical_digest
from storage.features.store import FeatureStore
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import coded_video

CLIPS = tiny_variant("clips", ConsecutiveFrames(8, 8), 8)
SINGLES = tiny_variant("singles", EveryFrame(), 1)


@dataclass
class Folder:
    """Fetches from a folder, and remembers what it was asked for."""

    path: Path
    asked: list[str] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    fault_at: str = ""

    def __call__(self, video_id: str, retry: bool) -> Media:
        self.asked.append(video_id)
        self.retried += [video_id] * retry
        if video_id == self.fault_at:
            raise SystemicFault("the network is gone")
        file = self.path / f"{video_id}.mp4"
        if not file.exists():
            raise VideoError(video_id, failure_status("not_found", "no such file"))
        return Media(file, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    videos = tmp_path / "videos"
    videos.mkdir()
    for video_id, frames in (("-first", 16), ("second", 20), ("short", 5)):
        coded_video(videos / f"{video_id}.mp4", frames)
    (videos / "torn.mp4").write_bytes(b"<html>this is no video</html>")
    return Folder(videos)


def job(tmp_path: Path, *variants: Variant) -> ShardJob:
    ids = ("-first", "gone", "second", "short", "torn")
    return ShardJob(
        Layout(tmp_path / "data", "tiny"), 0, ids, variants or (CLIPS, SINGLES), 1_000_000
    )


def run(one: ShardJob, folder: Folder) -> dict[str, VideoStatus]:
    told: dict[str, VideoStatus] = {}
    process_shard(
        one, fetch=folder, decoder=InlineDecoder(), device="cpu", on_video=told.__setitem__
    )
    return told


def statuses(one: ShardJob, variant: Variant) -> dict[str, str]:
    manifest = one.manifest(variant)
    assert manifest is not None
    return {video_id: entry.status.reason or "done" for video_id, entry in manifest.entries.items()}


def test_every_id_ends_in_one_state_of_each_variant(tmp_path: Path, folder: Folder) -> None:
    one = job(tmp_path)
    told = run(one, folder)
    everywhere = {"-first": "done", "second": "done", "gone": "not_found", "torn": "not_a_video"}
    assert statuses(one, CLIPS) == everywhere | {"short": "too_short"}
    assert statuses(one, SINGLES) == everywhere | {"short": "done"}
    assert {video_id: status.reason for video_id, status in told.items()}["short"] == "too_short"
    assert one.is_complete()
    assert folder.asked == list(one.video_ids), "each video is asked for once, for both variants"


def test_rows_are_what_the_pictures_say(tmp_path: Path, folder: Folder) -> None:
    run(job(tmp_path), folder)
    track = FeatureStore(tmp_path / "data" / "tiny")["clips"]["second"].track()
    # 20 frames at 10 a second: two windows of 8, the rest of 4 makes no row
    np.testing.assert_allclose(track.spans, [[0.0, 0.8], [0.8, 1.6]], atol=1e-9)
    # upper half: as many of 8 blocks white (235) as the number has bits, others black (16); lower
    # half grey (100)
    values = track.arrays["mean"]
    assert isinstance(values, np.ndarray)
    for number in range(16):
        bits = number.bit_count()
        expected = ((235 * bits + 16 * (8 - bits)) / 8 + 100) / 2
        np.testing.assert_allclose(values[number // 8, number % 8], expected, atol=2)


def test_rows_that_a_video_is_too_short_for_are_said_in_the_sidecar(
    tmp_path: Path, folder: Folder
) -> None:
    history = tiny_variant("history", FramesAtRateWithHistory(10, 10), 10)
    one = job(tmp_path, history, SINGLES)
    with SubprocessDecoder() as decoder:
        process_shard(one, fetch=folder, decoder=decoder, device="cpu", on_video=lambda *_: None)
    manifest, plain = one.manifest(history), one.manifest(SINGLES)
    assert manifest is not None
    assert plain is not None
    # 16 frames, 10 in a window: 0 to 6 have 9 behind them, 9 to 15 have 9 before them, 7 and 8 have
    # neither.
    told = {
        video_id: entry.facts.get("rows_lacking") for video_id, entry in manifest.entries.items()
    }
    first, second = told["-first"], told["second"]
    assert isinstance(first, dict)
    assert (first["count"], manifest.entries["-first"].rows) == (2, 14)
    assert "FramesAtRateWithHistory" in str(first["why"])
    assert second is None
    assert not any("rows_lacking" in entry.facts for entry in plain.entries.values())


def test_a_second_run_does_nothing(tmp_path: Path, folder: Folder) -> None:
    run(job(tmp_path), folder)
    folder.asked.clear()
    assert run(job(tmp_path), folder) == {}
    assert folder.asked == []


def test_a_new_extractor_adds_files_and_touches_none(tmp_path: Path, folder: Folder) -> None:
    run(job(tmp_path), folder)
    features = tmp_path / "data" / "tiny" / "features"
    before = {path: path.read_bytes() for path in features.rglob("*") if path.is_file()}
    rate = tiny_variant("rate", FramesAtRate(2), 1)
    run(job(tmp_path, CLIPS, SINGLES, rate), folder)
    assert {path: path.read_bytes() for path in before} == before
    assert statuses(job(tmp_path), rate)["second"] == "done"


def test_another_setting_is_another_folder(tmp_path: Path, folder: Folder) -> None:
    run(job(tmp_path, CLIPS), folder)
    doubled = tiny_variant("clips", ConsecutiveFrames(8, 8), 8, scale=2.0)
    run(job(tmp_path, doubled), folder)
    store = FeatureStore(tmp_path / "data" / "tiny")
    single = store[f"clips-{CLIPS.fingerprint()}"]["second"].track().arrays["mean"]
    double = store[f"clips-{doubled.fingerprint()}"]["second"].track().arrays["mean"]
    assert isinstance(single, np.ndarray)
    assert isinstance(double, np.ndarray)
    np.testing.assert_allclose(double, 2 * single, rtol=1e-6)


def test_a_fault_of_the_machine_stops_and_keeps_what_was_done(
    tmp_path: Path, folder: Folder
) -> None:
    folder.fault_at = "second"
    with pytest.raises(SystemicFault, match="the network is gone"):
        run(job(tmp_path), folder)
    assert job(tmp_path).manifest(CLIPS) is None
    folder.fault_at = ""
    folder.asked.clear()
    run(job(tmp_path), folder)
    assert "-first" not in folder.asked, "it waited in the spool"
    assert job(tmp_path).is_complete()


def test_an_interrupted_build_has_the_same_digest(tmp_path: Path, folder: Folder) -> None:
    folder.fault_at = "short"
    with pytest.raises(SystemicFault):
        run(job(tmp_path), folder)
    folder.fault_at = ""
    run(job(tmp_path), folder)
    whole = job(tmp_path / "whole")
    run(whole, folder)
    for variant in (CLIPS, SINGLES):
        manifests = [job(tmp_path).manifest(variant), whole.manifest(variant)]
        assert None not in manifests
        assert manifests[0] == manifests[1]


def test_a_retry_asks_again_and_counts_the_attempt(tmp_path: Path, folder: Folder) -> None:
    one = job(tmp_path)
    run(one, folder)
    coded_video(folder.path / "gone.mp4", 16)
    folder.asked.clear()
    for variant in one.variants:
        assert request_retry(one.variant_layout(variant), 0, {"not_found"}) == ("gone",)
    assert not one.is_complete()
    run(one, folder)
    assert folder.asked == folder.retried == ["gone"]
    manifest = one.manifest(CLIPS)
    assert manifest is not None
    assert manifest.entries["gone"].status.state == "done"
    assert manifest.entries["gone"].attempts == 2
    assert len(manifest.parts) == 2


def test_a_number_that_is_none_is_refused(tmp_path: Path, folder: Folder) -> None:
    # float16 ends at 65504; frame 0 has no white block and a mean of (16 + 100) / 2 = 58, all
    # others at least 71
    huge = tiny_variant("huge", EveryFrame(), 1, scale=1000.0, dtype="float16")
    run(job(tmp_path, huge), folder)
    manifest = job(tmp_path, huge).manifest(huge)
    assert manifest is not None
    assert manifest.entries["second"].status == failure_status(
        "non_finite", "19 of 20 rows of mean"
    )
    assert manifest.parts == ()


def test_the_order_of_the_job_does_not_matter(tmp_path: Path, folder: Folder) -> None:
    one, other = job(tmp_path / "one"), job(tmp_path / "other")
    run(one, folder)
    run(replace(other, variants=other.variants[::-1]), folder)
    for variant in one.variants:
        manifests = [
            manifest for manifest in (one.manifest(variant), other.manifest(variant)) if manifest
        ]
        assert len({logical_digest([manifest]) for manifest in manifests}) == 1
        names = [
            layout.folder.glob("*")
            for layout in (one.variant_layout(variant), other.variant_layout(variant))
        ]
        files = [
            {path.name: path.read_bytes() for path in found if path.is_file()} for found in names
        ]
        assert files[0] == files[1]


def test_what_is_settled_is_let_go_before_libraries_look_for_leaks() -> None:
    """torchvision's bindings report hundreds of leaks at exit if objects are left frozen."""
    code = (
        "import gc, torchvision;"
        "from pipeline.extraction.process_shard import freeze_startup_objects;"
        "freeze_startup_objects(); print(gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
