"""Every way a server can fail ends where it should, and nothing is accepted for whole that is
not.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.download.fetch import SourceSettings, fetch
from storage.base.errors import SystemicFault, VideoError
from storage.base.paths import Layout
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, Handler, Mirror
from tests.support.network_faults import FAULTS, WHOLE, unmeasured

pytestmark = pytest.mark.usefixtures("counted_here")


def source_at(template: str, attempts: int = 3) -> SourceSettings:
    # A fault with one attempt waits for this limit; others end by themselves, on a busy machine
    # too.
    silence = 0.5 if attempts == 1 else 10.0
    return SourceSettings(
        template,
        attempts=attempts,
        socket_timeout_seconds=silence,
        backoff_seconds=0,
        max_bytes=5_000_000,
    )


def outcome(template: str, folder: Path, attempts: int = 3) -> tuple[str, bytes]:
    """Where the video ends, and the accepted bytes."""
    try:
        media = fetch(
            "abc", layout=Layout(folder, "phd2"), shard=0, source=source_at(template, attempts)
        )
    except VideoError as error:
        return error.status.reason, b""
    return "done, damaged" if "damage" in media.facts else "done", media.path.read_bytes()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_its_state_and_is_never_accepted_for_whole(
    mirror: Mirror, tmp_path: Path, name: str
) -> None:
    mirror.answers["abc"] = FAULTS[name].fresh()
    ended, content = outcome(mirror.template, tmp_path, FAULTS[name].attempts)
    assert ended == FAULTS[name].outcome
    assert (ended == "done") == (content in WHOLE)


def test_a_damaged_file_is_taken_only_after_all_attempts_and_with_its_loss(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["abc"] = unmeasured(MP4[: len(MP4) // 2])
    assert outcome(mirror.template, tmp_path / "one", attempts=1) == ("network", b"")
    assert len(mirror.requests) == 1
    layout = Layout(tmp_path / "three", "phd2")
    media = fetch("abc", layout=layout, shard=0, source=source_at(mirror.template))
    assert len(mirror.requests) == 1 + 3
    # Its header, kept whole by faststart, declares 20 frames and 2 s; half of the bytes hold about
    # half of them.
    assert f"says it ends at byte {len(MP4):,}, the file has {len(MP4) // 2:,}" in str(
        media.facts["damage"]
    )
    assert fetch("abc", layout=layout, shard=0, source=source_at(mirror.template)) == media


def test_a_server_that_takes_its_time_before_a_quick_body_is_no_drip(
    mirror: Mirror, tmp_path: Path
) -> None:
    def slow(handler: Handler) -> None:
        for piece in (
            b"HTTP/1.1 200 OK\r\n",
            b"Content-Type: video/mp4\r\n",
            b"Content-Length: %d\r\n\r\n" % len(MP4),
        ):
            time.sleep(0.8)
            handler.wfile.write(piece)
        handler.wfile.write(MP4[:100])
        time.sleep(0.1)
        handler.wfile.write(MP4[100:])

    mirror.answers["abc"] = slow
    # The headers take longer than a window, in which 4,000 bytes must come, and the first hundred
    # come alone.
    source = SourceSettings(
        mirror.template, attempts=1, socket_timeout_seconds=2, min_bytes_per_second=2000
    )
    media = fetch("abc", layout=Layout(tmp_path, "phd2"), shard=0, source=source)
    assert media.path.read_bytes() == MP4


def test_a_damaged_file_without_a_header_is_no_video(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers["abc"] = web.body(MP4[:400])
    assert outcome(mirror.template, tmp_path) == ("unreadable", b"")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "nobody.invalid:80"])
def test_a_source_that_nobody_answers_at_stops_the_run_and_marks_no_video(
    tmp_path: Path, host: str
) -> None:
    with pytest.raises(
        SystemicFault, match=f"the source {host} cannot be reached.*No video was marked"
    ):
        outcome(f"http://{host}/{{id}}", tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_a_proxy_that_refuses_stops_the_run_and_its_password_stays_untold(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["abc"] = web.body(MP4)
    source = SourceSettings(
        mirror.template, attempts=1, backoff_seconds=0, proxy="http://me:CANARY99@127.0.0.1:9"
    )
    with pytest.raises(SystemicFault, match=r"the proxy 127.0.0.1:9 cannot be reached") as caught:
        fetch("abc", layout=Layout(tmp_path, "phd2"), shard=0, source=source)
    assert "CANARY99" not in str(caught.value)
    assert mirror.requests == []
