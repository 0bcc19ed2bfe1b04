"""One video: decode once, feed every variant, and record what became of it."""

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
    """What one video gave one variant."""

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
    """Decode once, feed every variant; one outcome each, in order. Nothing of this video is
    computed afterwards.
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
        facts["source"] = {"sha256": media.sha256, "size_bytes": media.size_bytes, **media.facts}
        with verify_while_reading(video_id, media):
            facts |= _decode_into_builders(video_id, media, builders, decoder, times)
    except VideoError as error:
        for builder in builders:
            builder.abandon()
        return [VideoResult(error.status, None, facts) for _ in builders]
    with times.measure(video_id, "wait_compute"):
        outcomes = [_finish(builder, facts) for builder in builders]
    for builder, outcome in zip(builders, outcomes, strict=True):
        times.add(
            video_id,
            f"feature_bytes:{builder.variant.name}",
            outcome.track.nbytes if outcome.track else 0,
        )
    return outcomes


def _decode_into_builders(
    video_id: str, media: Media, builders: Sequence[TrackBuilder], decoder: Decoder, times: Times
) -> dict[str, JSON]:
    samplings = [builder.sampling for builder in builders]
    preparing = [0.0] * len(builders)
    told = times.measure_waits(
        decoder.decode(video_id, media.path, samplings), "wait_decode", lambda _: video_id
    )
    try:
        with closing(told) as events:
            return _consume_events(video_id, events, builders, preparing, times)
    finally:
        for builder, seconds in zip(builders, preparing, strict=True):
            times.add(video_id, f"prepare:{builder.variant.name}", seconds)


def _consume_events(
    video_id: str,
    events: Iterator[Event],
    builders: Sequence[TrackBuilder],
    preparing: list[float],
    times: Times,
) -> dict[str, JSON]:
    """The video's facts, once each builder has what it wants; `preparing` grows by the seconds that
    frames took it.
    """
    facts: dict[str, JSON] = {}
    for event in events:
        if isinstance(event, FrameEvent | YuvFrameEvent):
            frame = event.rgb if isinstance(event, FrameEvent) else event.planes
            for place in event.wanted_by:
                began = time.perf_counter()
                builders[place].add_frame(event.index, frame)
                preparing[place] += time.perf_counter() - began
        elif isinstance(event, WindowEvent):
            builders[event.sampling].add_window(event.window)
        elif isinstance(event, AlignmentEvent):
            builders[event.sampling].alignment = event.alignment
        else:
            times.add(video_id, "video", event.summary.covered_seconds)
            times.add(video_id, "decode", event.cpu_seconds or 0.0)
            for builder, count in zip(builders, event.lacking, strict=True):
                builder.lacking = count
            facts = {"probe": to_json_value(event.probe), "decode": to_json_value(event.summary)}
    return facts


def _finish(builder: TrackBuilder, facts: Mapping[str, JSON]) -> VideoResult:
    try:
        track = builder.finish()
    except VideoError as error:
        return VideoResult(error.status, None, {**facts, **builder.facts()})
    return VideoResult(DONE, track, {**facts, **builder.facts()})


def overall_status(outcomes: Sequence[VideoResult]) -> VideoStatus:
    """The verdict to show for a video that several variants saw: one that failed, if any did."""
    return next(
        (outcome.status for outcome in outcomes if outcome.status.state is not State.DONE), DONE
    )
