"""Processes one video: decodes it once, feeds every variant, and records the results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from models.extractors.base.contract import Extractor
from pipeline.compute.cpu_executor import Compute, compute_inline
from pipeline.decoding.events import (
    AlignmentEvent,
    Decoder,
    Event,
    FrameEvent,
    WindowEvent,
    YuvFrameEvent,
)
from pipeline.extraction.timing import Times
from pipeline.extraction.track_builder import TrackBuilder
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from pipeline.media.rehash import verify_while_reading
from storage.base.errors import VideoError
from storage.base.fingerprint import to_json_value
from storage.base.records import JSON, FeatureTrack
from storage.base.video_status import DONE, State, VideoStatus


@dataclass(frozen=True)
class VideoResult:
    """Status, features and facts of one video for one variant."""

    status: VideoStatus
    track: FeatureTrack | None = None
    facts: Mapping[str, JSON] = field(default_factory=dict)


def process_video(
    video_id: str,
    media: Media | VideoError,
    variants: Sequence[tuple[Variant, Extractor]],
    decoder: Decoder,
    compute: Compute = compute_inline,
    times: Times | None = None,
) -> list[VideoResult]:
    """Decode once and feed every variant; returns one result each, in order.

    When this returns, no computation of the video is left running.
    """
    times = times or Times()
    builders = [
        TrackBuilder(
            video_id, variant, extractor, times.measure_compute(compute, video_id, variant.name)
        )
        for variant, extractor in variants
    ]
    facts: dict[str, JSON] = {}
    try:
        if isinstance(media, VideoError):
            raise media
        # Recorded first: videos that fail later also have these facts.
        facts["source"] = {"sha256": media.sha256, "size_bytes": media.size_bytes, **media.facts}
        with verify_while_reading(video_id, media):
            facts |= _decode_into_builders(video_id, media, builders, decoder, times)
    except VideoError as error:
        # Nothing may be computed for a video that has failed already.
        for builder in builders:
            builder.cancel()
        return [VideoResult(error.status, None, facts) for _ in builders]
    with times.measure(video_id, "wait_compute"):
        results = [_finish(builder, facts) for builder in builders]
    for builder, result in zip(builders, results, strict=True):
        feature_bytes = result.track.nbytes if result.track else 0
        times.add(video_id, f"feature_bytes:{builder.variant.name}", feature_bytes)
    return results


def _decode_into_builders(
    video_id: str, media: Media, builders: Sequence[TrackBuilder], decoder: Decoder, times: Times
) -> dict[str, JSON]:
    samplings = [builder.sampling for builder in builders]
    prepare_seconds = [0.0] * len(builders)
    events = times.measure_waits(
        decoder.decode(video_id, media.path, samplings), "wait_decode", lambda _: video_id
    )
    try:
        # Closed at once after an error: the decoder is then free for the next video.
        with closing(events):
            return _consume_events(video_id, events, builders, prepare_seconds, times)
    finally:
        for builder, seconds in zip(builders, prepare_seconds, strict=True):
            times.add(video_id, f"prepare:{builder.variant.name}", seconds)


def _consume_events(
    video_id: str,
    events: Iterator[Event],
    builders: Sequence[TrackBuilder],
    prepare_seconds: list[float],
    times: Times,
) -> dict[str, JSON]:
    """Pass every event to its builders; returns the video's facts.

    `prepare_seconds` grows by the time that frames take each builder.
    """
    facts: dict[str, JSON] = {}
    for event in events:
        if isinstance(event, FrameEvent | YuvFrameEvent):
            _add_frame(event, builders, prepare_seconds)
        elif isinstance(event, WindowEvent):
            builders[event.sampling].add_window(event.window)
        elif isinstance(event, AlignmentEvent):
            builders[event.sampling].alignment = event.alignment
        else:
            # The end of the video.
            times.add(video_id, "video", event.summary.covered_seconds)
            times.add(video_id, "decode", event.cpu_seconds or 0.0)
            for builder, count in zip(builders, event.rows_lacking, strict=True):
                builder.rows_lacking = count
            facts = {"probe": to_json_value(event.probe), "decode": to_json_value(event.summary)}
    return facts


def _add_frame(
    event: FrameEvent | YuvFrameEvent,
    builders: Sequence[TrackBuilder],
    prepare_seconds: list[float],
) -> None:
    frame = event.rgb if isinstance(event, FrameEvent) else event.planes
    for position in event.wanted_by:
        # Timed here, not by `Times.measure`: a video may have a million frames.
        began = time.perf_counter()
        builders[position].add_frame(event.index, frame)
        prepare_seconds[position] += time.perf_counter() - began


def _finish(builder: TrackBuilder, facts: Mapping[str, JSON]) -> VideoResult:
    status, track = DONE, None
    try:
        track = builder.finish()
    except VideoError as error:
        status = error.status
    return VideoResult(status, track, {**facts, **builder.facts()})


def overall_status(results: Sequence[VideoResult]) -> VideoStatus:
    """The status to show for a video: that of the first variant that failed, else done."""
    for result in results:
        if result.status.state is not State.DONE:
            return result.status
    return DONE
