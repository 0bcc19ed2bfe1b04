"""A site that says stop for half an hour: a handful of requests, no video marked, and the run goes
on by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from pipeline.download.access.rate_limiter import NoLimit, SharedRateLimiter
from pipeline.download.fetch import SourceSettings, fetch
from pipeline.extraction.process_shard import prefetch_media
from pipeline.media.media_file import Media
from storage.base.errors import SystemicFault
from storage.base.paths import Layout
from tests.pipeline.download.test_rate_limiter import START, UNPACED, Time, gate_at
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, Handler, Mirror
from tests.support.network_faults import raw

pytestmark = pytest.mark.usefixtures("counted_here")

STORM_SECONDS = 1800.0


def stormy(mirror: Mirror, clock: Time, ids: list[str], **headers: str) -> None:
    """Every video is there, and is refused with 429 while the clock is within the storm."""

    def answer(handler: Handler) -> None:
        if clock.now < START + STORM_SECONDS:
            handler.reply(429, b"slow down", **headers)
        else:
            handler.reply(200, MP4)

    mirror.answers |= dict.fromkeys(ids, answer)


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "5"}, {"Retry_After": "1800"}], ids=str)
def test_a_storm_costs_few_requests_and_no_video_an_attempt(
    mirror: Mirror, tmp_path: Path, headers: dict[str, str]
) -> None:
    clock, layout, ids = Time(), Layout(tmp_path, "phd2"), [f"v{number}" for number in range(4)]
    source = SourceSettings(mirror.template, attempts=1, backoff_seconds=0)
    gates = [gate_at(layout.egress(source.egress_key), clock, UNPACED) for _ in range(2)]
    stormy(mirror, clock, ids, **headers)
    for number, video_id in enumerate(ids):
        assert (
            fetch(
                video_id, layout=layout, shard=0, source=source, rate_limiter=gates[number % 2]
            ).path.read_bytes()
            == MP4
        )
    during = len(mirror.requests) - len(ids)
    # Without Retry-After: at 0, 60, 180, 420, 900 and 1500 s; the seventh, at 2100 s, is answered.
    assert during <= 6
    records = [layout.media_record(video_id, 0).read_text() for video_id in ids]
    assert all('"state": "done"' in record for record in records)


def test_leaving_a_shard_ends_a_fetch_that_only_waits(mirror: Mirror, tmp_path: Path) -> None:
    layout, source = Layout(tmp_path, "phd2"), SourceSettings(mirror.template, attempts=1)
    mirror.answers |= {"a": web.body(MP4), "b": web.status(429)}
    gate = SharedRateLimiter(
        layout.egress(source.egress_key), UNPACED, notify=lambda _: None
    )  # the true clock: a minute's pause

    def fetched(video_id: str, retry: bool) -> Media:
        return fetch(
            video_id, layout=layout, shard=0, source=source, rate_limiter=gate, retry=retry
        )

    answers = prefetch_media(fetched, ("a", "b"), frozenset(), gate.stop)
    video_id, media = next(answers)
    assert (video_id, isinstance(media, Media)) == ("a", True)
    while len(mirror.requests) < 2:
        time.sleep(0.01)
    started = time.monotonic()
    assert isinstance(answers, Generator)
    answers.close()
    assert (
        time.monotonic() - started < 30
    )  # not a measurement: without the stop it takes the minute
    assert not layout.media_record("b", 0).exists()


def silence(handler: Handler) -> None:
    """No answer for two minutes."""
    time.sleep(120)


@pytest.mark.parametrize(
    "start", ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"]
)
def test_leaving_a_shard_ends_a_fetch_whose_server_is_silent(
    mirror: Mirror, tmp_path: Path, start: str
) -> None:
    layout, left = Layout(tmp_path, "phd2"), list[BaseException]()
    source = SourceSettings(mirror.template, attempts=1, socket_timeout_seconds=110)
    gate = SharedRateLimiter(layout.egress(source.egress_key), UNPACED, notify=lambda _: None)
    mirror.answers["abc"] = raw(start.encode(), after=silence)

    def ask() -> None:
        try:
            fetch("abc", layout=layout, shard=0, source=source, rate_limiter=gate)
        except SystemicFault as fault:
            left.append(fault)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while not mirror.requests:
        time.sleep(0.01)
    gate.stop()
    thread.join(60)  # not a measurement: without the stop it takes two minutes
    assert [str(fault).partition(";")[0] for fault in left] == ["stopped while waiting"]
    assert not layout.media_record("abc", 0).exists()


class Leaving(NoLimit):
    """A way that is left in the middle of a transfer."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    def sleep(self, seconds: float) -> None:
        self.blocks -= 1
        if self.blocks < 0:
            raise SystemicFault("stopped while waiting")


def test_leaving_a_shard_drops_a_transfer_and_keeps_what_has_arrived(
    mirror: Mirror, tmp_path: Path
) -> None:
    layout, source = Layout(tmp_path, "phd2"), SourceSettings(mirror.template, attempts=1)
    mirror.answers["abc"] = web.resumable(MP4, '"v1"')
    with pytest.raises(SystemicFault, match="stopped while waiting"):
        fetch("abc", layout=layout, shard=0, source=source, rate_limiter=Leaving(3))
    assert not layout.media_record("abc", 0).exists()
    (part,) = tmp_path.rglob("media.part")
    assert 0 < part.stat().st_size < len(MP4)
    assert MP4.startswith(part.read_bytes())
    assert fetch("abc", layout=layout, shard=0, source=source).path.read_bytes() == MP4


def test_a_storm_longer_than_allowed_marks_nothing_and_can_be_resumed(
    mirror: Mirror, tmp_path: Path
) -> None:
    clock, layout = Time(), Layout(tmp_path, "phd2")
    source = SourceSettings(mirror.template, attempts=1, backoff_seconds=0)
    mirror.answers["abc"] = web.status(429)

    def gate() -> SharedRateLimiter:
        return gate_at(layout.egress(source.egress_key), clock, UNPACED)

    with pytest.raises(SystemicFault, match=r"the site asks us to slow down.*No video was marked"):
        fetch("abc", layout=layout, shard=0, source=source, rate_limiter=gate())
    assert not layout.media_record("abc", 0).exists()
    asked = len(mirror.requests)
    mirror.answers["abc"] = web.body(MP4)
    clock.now += 600
    assert (
        fetch("abc", layout=layout, shard=0, source=source, rate_limiter=gate()).path.read_bytes()
        == MP4
    )
    assert len(mirror.requests) == asked + 1
