"""Files that ask to have other files or addresses opened: not one byte of a canary comes out, not
one request goes in.

Each trick names a canary video beside it, or a loopback server; the backends see it as a real child
and as ourselves.
"""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.events import Decoder, FrameEvent
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from storage.base.errors import VideoError
from tests.support.backend_conformance import ON_PROCESSORS, need
from tests.support.videos import encode, ffmpeg

CANARY = 200
"""Every pixel of the canary video; the tricks' own pictures are darker."""
CARRIER = 40


@dataclass
class Trap:
    """What the tricks point at, and whether anybody came."""

    folder: Path
    port: int
    hits: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return str(self.folder / "canary.ts")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/canary.ts"

    @property
    def carrier(self) -> bytes:
        return (self.folder / "carrier.mp4").read_bytes()


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    folder = tmp_path_factory.mktemp("trap")
    flat = [np.full((32, 64, 3), CANARY, np.uint8)] * 3
    encode(folder / "canary.ts", flat, "-pix_fmt", "yuv420p")
    encode(
        folder / "carrier.mp4", [np.full((32, 64, 3), CARRIER, np.uint8)] * 3, "-pix_fmt", "yuv420p"
    )
    found = Trap(folder, 0)

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.hits.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def hls(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()


def dash(target: str) -> bytes:
    profile = "urn:mpeg:dash:profile:isoff-on-demand:2011"
    inner = f"<Period><AdaptationSet><Representation id='1'><BaseURL>{target}</BaseURL></Representation>"
    return (
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="{profile}" '
        f'mediaPresentationDuration="PT9S">{inner}</AdaptationSet></Period></MPD>'
    ).encode()


def sdp(trap: Trap) -> bytes:
    return f"v=0\r\nc=IN IP4 127.0.0.1\r\nm=video {trap.port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n".encode()


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def external(trap: Trap, kind: bytes, target: bytes) -> bytes:
    """The carrier, with a data reference that is not marked as `in this file`."""
    whole = trap.carrier
    at = whole.index(b"dref") - 4
    old = int.from_bytes(whole[at : at + 4], "big")
    reference = box(kind, b"\0\0\0\0" + target)
    grown = box(b"dref", b"\0\0\0\0\0\0\0\1" + reference)
    whole = whole[:at] + grown + whole[at + old :]
    added = len(grown) - old
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = whole.index(parent) - 4
        size = int.from_bytes(whole[start : start + 4], "big") + added
        whole = whole[:start] + size.to_bytes(4, "big") + whole[start + 4 :]
    return whole


def alias(trap: Trap) -> bytes:
    """A QuickTime alias record with the canary's absolute path in it."""
    path = trap.file.encode()
    record = bytes(10) + bytes([0]) + bytes(27) + bytes(8) + bytes([0]) + bytes(63) + bytes(32)
    extra = (
        b"\0\2"
        + len(path).to_bytes(2, "big")
        + path
        + (b"\0" if len(path) % 2 else b"")
        + b"\xff\xff\0\0"
    )
    return record + extra


def with_attachment(trap: Trap, path: Path) -> None:
    playlist = path.with_suffix(".m3u8")
    playlist.write_bytes(hls(trap.url))
    attach = ("-attach", str(playlist), "-metadata:s:t", "mimetype=application/vnd.apple.mpegurl")
    ffmpeg("-i", trap.folder / "carrier.mp4", "-c", "copy", *attach, "-f", "matroska", path)


def with_subtitle(trap: Trap, path: Path) -> None:
    words = path.with_suffix(".srt")
    words.write_text(f"1\n00:00:00,000 --> 00:00:09,000\n#EXTM3U\n#EXTINF:9,\n{trap.url}\n")
    ffmpeg(
        "-i",
        trap.folder / "carrier.mp4",
        "-i",
        words,
        "-c:v",
        "copy",
        "-c:s",
        "mov_text",
        "-f",
        "mp4",
        path,
    )


def avi_then(trap: Trap, tail: bytes) -> bytes:
    avi = trap.folder / "carrier.avi"
    ffmpeg("-i", trap.folder / "carrier.mp4", "-c:v", "mpeg4", avi)
    return avi.read_bytes() + tail


def gab2(playlist: bytes) -> bytes:
    """An AVI subtitle chunk of the kind that once was handed to any demuxer."""
    content = (
        b"GAB2\0"
        + b"\2\0"
        + (2).to_bytes(4, "little")
        + b"x\0"
        + b"\4\0"
        + len(playlist).to_bytes(4, "little")
    )
    content += playlist
    return b"01sb" + len(content).to_bytes(4, "little") + content


Trick = Callable[[Trap], bytes]

TRICKS: dict[str, Trick] = {
    "HLS to a file, named .mp4": lambda trap: hls(f"file://{trap.file}"),
    "HLS to a path": lambda trap: hls(trap.file),
    "HLS to an address": lambda trap: hls(trap.url),
    "HLS behind a concat protocol": lambda trap: hls(f"concat:{trap.url}|file://{trap.file}"),
    "HLS with a byte order mark": lambda trap: b"\xef\xbb\xbf" + hls(trap.url),
    "concat script": lambda trap: f"ffconcat version 1.0\nfile '{trap.file}'\n".encode(),
    "concat script to an address": lambda trap: (
        f"ffconcat version 1.0\nfile '{trap.url}'\n".encode()
    ),
    "DASH": lambda trap: dash(trap.url),
    "DASH to a file": lambda trap: dash(f"file://{trap.file}"),
    "SDP": sdp,
    "SDP that says free at byte 4": lambda trap: b"v=0\nfree\n" + sdp(trap),
    "DASH in the free box of an mp4": lambda trap: box(b"free", dash(trap.url)) + trap.carrier,
    "HLS in the free box of an mp4": lambda trap: (
        box(b"free", b"\n" + hls(trap.url)) + trap.carrier
    ),
    "mov with an address for its data": lambda trap: external(
        trap, b"url ", trap.url.encode() + b"\0"
    ),
    "mov with an alias for its data": lambda trap: external(trap, b"alis", alias(trap)),
    "AVI with a playlist behind it": lambda trap: avi_then(trap, hls(trap.url)),
    "AVI with a playlist as subtitle": lambda trap: avi_then(trap, gab2(hls(trap.url))),
    "a name with a pattern": lambda trap: b"%03d.png",
}
BY_FFMPEG: dict[str, Callable[[Trap, Path], None]] = {
    "playlist attached to a matroska": with_attachment,
    "playlist as subtitle of an mp4": with_subtitle,
}


def looked_at(decoder: Decoder, path: Path) -> set[int]:
    """Brightness of all that comes out; nothing where the file is refused."""
    try:
        events = decoder.decode("v", path, [EveryFrame()])
        return {int(event.rgb.max()) for event in events if isinstance(event, FrameEvent)}
    except VideoError:
        return set()


@pytest.fixture(scope="module")
def decoders() -> Iterator[list[Decoder]]:
    child = SubprocessDecoder()
    yield [child, *(InlineDecoder(backend) for backend in ON_PROCESSORS)]
    child.close()


@pytest.mark.parametrize("name", [*TRICKS, *BY_FFMPEG])
def test_nothing_is_read_and_nobody_is_asked(
    name: str, trap: Trap, decoders: list[Decoder], tmp_path: Path
) -> None:
    for file_name in ("v.mp4", "v.m3u8", "file:v%03d.mp4"):
        path = tmp_path / file_name
        if name in TRICKS:
            path.write_bytes(TRICKS[name](trap))
        else:
            BY_FFMPEG[name](trap, path)
        for decoder in decoders:
            need(decoder.name)
            assert all(value < CANARY - 20 for value in looked_at(decoder, path)), (
                file_name,
                decoder.name,
            )
    assert trap.hits == []


def test_the_trap_works(trap: Trap) -> None:
    """A decoder that does follow a playlist sees the canary, and the server notices a visitor."""
    assert looked_at(InlineDecoder(), Path(trap.file)) == {CANARY}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(trap.url, timeout=5)  # noqa: S310 - our own server
    assert trap.hits == ["/canary.ts"]
    trap.hits.clear()
