"""Videos in parallel: the same store as one by one, one status a bad video, errors end all."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame
from pipeline.compute.gpu_batcher import GpuBatcher
from pipeline.decoding.events import Decoder, Event
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction import process_shard as process
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.timing import WHOLE_SHARD, Times
from pipeline.media.media_file import Media
from pipeline.sampling.planner import VideoSampling
from storage.base.errors import ExtractorFailed, SystemicFault, VideoError
from storage.base.paths import Layout
from storage.base.video_status import VideoStatus, failure_status
from storage.features.manifest import logical_digest
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import coded_video

CLIPS = tiny_variant("clips", ConsecutiveFrames(8, 4), 8)
SINGLES = tiny_variant("singles", EveryFrame(), 1)
IDS = tuple(f"video{number}" for number in range(8))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, video_id in enumerate(IDS):
        if number == 2:
            (folder / f"{video_id}.mp4").write_bytes(b"<html>this is no video</html>")
        elif number != 5:
            coded_video(folder / f"{video_id}.mp4", 5 if number == 3 else 20 + 7 * number)
    return folder


def job(folder: Path) -> ShardJob:
    return ShardJob(Layout(folder, "tiny"), 0, IDS, (CLIPS, SINGLES), 1_000_000)


def run(
    one: ShardJob, videos: Path, decoders: Sequence[Decoder], times: Times | None = None
) -> dict[str, VideoStatus]:
    def fetch(video_id: str, _: bool) -> Media:
        path = videos / f"{video_id}.mp4"
        if not path.exists():
            raise VideoError(video_id, failure_status("not_found", "no such file"))
        return Media(path, "0" * 64, path.stat().st_size)

    told: dict[str, VideoStatus] = {}
    first, *others = decoders
    process_shard(
        one,
        fetch=fetch,
        decoder=first,
        device="cpu",
        on_video=told.__setitem__,
        times=times,
        more_decoders=others,
    )
    return told


def digests(one: ShardJob) -> list[str]:
    return [
        logical_digest([manifest])
        for variant in one.variants
        if (manifest := one.manifest(variant))
    ]


def files(one: ShardJob) -> list[dict[str, bytes]]:
    folders = [one.variant_layout(variant).folder for variant in one.variants]
    return [
        {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
        for folder in folders
    ]


@pytest.fixture(scope="module")
def plain(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardJob:
    one = job(tmp_path_factory.mktemp("plain"))
    told = run(one, videos, [InlineDecoder()])
    assert {told[video_id].reason for video_id in ("video2", "video3", "video5")} == {
        "not_a_video",
        "too_short",
        "not_found",
    }
    return one


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("at_once", [2, 5, 12])
def test_the_store_is_the_same_byte_for_byte(
    plain: ShardJob,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    batched: bool,
) -> None:
    if batched:
        monkeypatch.setattr(process, "make_executor", lambda device, **_: GpuBatcher(device))
    one, times = job(tmp_path), Times()
    told = run(one, videos, [InlineDecoder() for _ in range(at_once)], times)
    assert files(one) == files(plain)
    assert told.keys() == set(IDS)
    assert times.by_video()[WHOLE_SHARD]["wall"] > 0


class Meeting(InlineDecoder):
    """Decodes nothing before as many videos are in hand as there are decoders."""

    def __init__(self, together: threading.Barrier) -> None:
        super().__init__()
        self.together = together

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        if video_id in ("video0", "video1", "video4"):
            self.together.wait(10)
        yield from super().decode(video_id, path, samplings)


def test_as_many_videos_are_in_hand_as_there_are_decoders(videos: Path, tmp_path: Path) -> None:
    together = threading.Barrier(3)
    run(job(tmp_path), videos, [Meeting(together) for _ in range(3)])
    assert not together.broken


class Failing(InlineDecoder):
    """The machine fails in the middle of one video, while the others would never end."""

    stopped = 0

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        for number, event in enumerate(super().decode(video_id, path, samplings)):
            if video_id == "video1" and number == 9:
                raise SystemicFault("the disk is gone")
            yield event
            if video_id in ("video0", "video4"):
                for _ in range(1000):
                    time.sleep(0.01)
                    yield event
                raise AssertionError("nobody stopped me")


def test_a_fault_of_the_machine_stops_all_and_is_told_once(
    plain: ShardJob, videos: Path, tmp_path: Path
) -> None:
    one = job(tmp_path)
    # Other tests of this process may have left threads of libraries.
    threads_before = threading.active_count()
    began = time.monotonic()
    with pytest.raises(SystemicFault, match="the disk is gone"):
        run(one, videos, [Failing() for _ in range(3)])
    assert time.monotonic() - began < 5
    assert [one.manifest(variant) for variant in one.variants] == [None, None]
    assert threading.active_count() <= threads_before
    run(one, videos, [InlineDecoder() for _ in range(3)])
    assert digests(one) == digests(plain)


def test_an_error_of_a_network_stops_all(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the network broke")

    monkeypatch.setattr("tests.support.tiny_extractor.Tiny.extract", broken)
    with pytest.raises(ExtractorFailed, match=r"RuntimeError: the network broke, in .*py:"):
        run(job(tmp_path), videos, [InlineDecoder() for _ in range(3)])
    process.cached_extractor.cache_clear()


def test_a_child_that_crashes_blames_its_own_video(
    plain: ShardJob, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(SubprocessDecoder):
        """Its child is killed while it decodes one video, and killed again."""

        def decode(
            self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
        ) -> Generator[Event, None, None]:
            for event in super().decode(video_id, path, samplings):
                if video_id == "video6" and self._worker is not None:
                    self._worker._process.kill()
                yield event

    one = job(tmp_path)
    decoders = [Killed() for _ in range(3)]
    told = run(one, videos, decoders)
    assert told["video6"].reason == "crash"
    whole = {video_id for video_id, status in told.items() if status.reason not in ("crash",)}
    assert whole == set(IDS) - {"video6"}
    assert {told[one].state for one in ("video0", "video1", "video4", "video7")} == {"done"}
    assert [decoder.pid for decoder in decoders] == [None] * 3, "a child outlives its thread"


def test_children_of_threads_die_with_the_process(videos: Path, tmp_path: Path) -> None:
    layers = []

    class Looking(SubprocessDecoder):
        def close(self) -> None:
            layers.append(self.layers)
            super().close()

    run(job(tmp_path), videos, [Looking() for _ in range(2)])
    assert all(one.dies_with_parent for one in layers if one is not None)
    assert any(one is not None for one in layers)


def test_more_decoders_than_videos_are_left_alone(videos: Path, tmp_path: Path) -> None:
    one = replace(job(tmp_path), video_ids=IDS[:1])
    decoders = [SubprocessDecoder() for _ in range(3)]
    run(one, videos, decoders)
    assert one.is_complete()
    assert [decoder.pid is None for decoder in decoders[1:]] == [True, True]
    decoders[0].close()
