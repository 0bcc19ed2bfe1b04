"""How many of the network faults leave a wrong file behind an exit status of success: bare yt-dlp
against this project.

    python -m benchmarks.download_faults          # both, about ten minutes: bare yt-dlp waits as
    long as a server likes python -m benchmarks.download_faults --ours   # this project alone, about
    two minutes

Everything happens on loopback. A wrong accept is a file that is none of the whole files a server
held and is handed over without a word; a file that is handed over with its damage stated is counted
apart. Each case of ours must end within `LIMIT_SECONDS` for each attempt, and 1 is the exit status
if one does not, or if a wrong file was accepted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import yt_dlp

from pipeline.download.fetch import SourceSettings, fetch
from storage.base.errors import VideoError
from storage.base.paths import Layout
from tests.support.faulty_server import MP4, Answer, Handler, body, running_mirror
from tests.support.network_faults import FAULTS, OK, WHOLE

SILENCE_SECONDS = 1.0
LIMIT_SECONDS = 10 * SILENCE_SECONDS
"""Four silences until a body begins, one or two for each window of a body, and reading what
came.
"""
MOST_BYTES = 5_000_000
"""The endless body must end somewhere, for yt-dlp too."""
BOMB_BYTES = 900_000_000


def ours(template: str, folder: Path, attempts: int = 3, max_bytes: int = MOST_BYTES) -> str:
    """`right`, `WRONG`, `damage told` or the reason it was refused for."""
    source = SourceSettings(
        template,
        attempts=attempts,
        socket_timeout_seconds=SILENCE_SECONDS,
        backoff_seconds=0,
        max_bytes=max_bytes,
        min_bytes_per_second=2000,
    )
    try:
        media = fetch("abc", layout=Layout(folder, "phd2"), shard=0, source=source)
    except VideoError as error:
        return error.status.reason
    if "damage" in media.facts:
        return "damage told"
    return "right" if media.path.read_bytes() in WHOLE else "WRONG"


def bare(template: str, folder: Path) -> str:
    """The same for yt-dlp with its defaults, told the address as a site module would tell it."""
    options = {
        "quiet": True, "noprogress": True, "proxy": "", "socket_timeout": SILENCE_SECONDS, "retries": 2,
        "max_filesize": MOST_BYTES, "outtmpl": str(folder / "video.%(ext)s"),
    }  # fmt: skip
    info = {
        "id": "abc",
        "title": "abc",
        "extractor": "mirror",
        "ext": "mp4",
        "url": template.format(id="abc"),
    }
    with contextlib.redirect_stderr(io.StringIO()), yt_dlp.YoutubeDL(options) as client:
        try:
            client.process_ie_result(info, download=True)
        except yt_dlp.utils.YoutubeDLError:
            return "refused"
        except (
            ArithmeticError,
            AttributeError,
            OSError,
            ValueError,
        ) as error:  # what it lets through is told
            return type(error).__name__
    path = folder / "video.mp4"
    if not path.exists():
        return "nothing"
    return "right" if path.read_bytes() in WHOLE else "WRONG"


def ended(answer: Answer, download: Callable[[str, Path], str]) -> tuple[str, float]:
    """Where a download ends, and after how many seconds."""
    with tempfile.TemporaryDirectory() as folder, running_mirror() as mirror:
        mirror.answers["abc"] = answer
        began = time.monotonic()
        end = download(mirror.template, Path(folder))
        return end, time.monotonic() - began


def peak_megabytes() -> int:
    """The most memory this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def bomb(handler: Handler) -> None:
    """Zeros in gzip, in little memory here too, since this process is the one that is measured."""
    handler.wfile.write(OK + b"Content-Encoding: gzip\r\n\r\n")
    for piece in _packed_zeros(BOMB_BYTES):
        handler.wfile.write(piece)


def _packed_zeros(size_bytes: int) -> Iterator[bytes]:
    packer, million = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16), bytes(1_000_000)
    for _ in range(size_bytes // len(million)):
        yield packer.compress(million)
    yield packer.flush()


def all_of_ours() -> int:
    """Print one line for each fault, and what it cost; how many were wrong or late."""
    wrong = late = 0
    ended(body(MP4), ours)  # what every download needs in memory
    before = peak_megabytes()
    for name, fault in FAULTS.items():
        end, seconds = ended(
            fault.fresh(),
            lambda template, folder, fault=fault: ours(template, folder, fault.attempts),
        )
        wrong += end == "WRONG"
        late += seconds > fault.attempts * LIMIT_SECONDS
        sys.stdout.write(
            f"{name:<36} {end:<14} {seconds:5.1f} s, at most {fault.attempts * LIMIT_SECONDS:.0f} s\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{len(FAULTS)} faults: {wrong} wrong accepts, {late} beyond their limit\n")
    sys.stdout.write(f"memory of this process: {before} MB, at its peak {peak_megabytes()} MB\n")
    end, seconds = ended(bomb, functools.partial(ours, attempts=1, max_bytes=2 * BOMB_BYTES))
    sys.stdout.write(
        f"{BOMB_BYTES:,} zeros in gzip: {end}, {seconds:.0f} s; peak {peak_megabytes()} MB\n"
    )
    return wrong + late


def all_of_bare() -> None:
    """Print one line for each fault, and the sum of wrong accepts."""
    wrong, longest = 0, 0.0
    for name, fault in FAULTS.items():
        end, seconds = ended(fault.fresh(), bare)
        wrong, longest = wrong + (end == "WRONG"), max(longest, seconds)
        sys.stdout.write(f"bare yt-dlp: {name:<36} {end:<14} {seconds:5.1f} s\n")
        sys.stdout.flush()
    sys.stdout.write(
        f"bare yt-dlp, {len(FAULTS)} faults: {wrong} wrong accepts; the longest took {longest:.0f} s\n"
    )


def main() -> int:
    """Run what was asked for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.download_faults", description=__doc__
    )
    parser.add_argument("--ours", action="store_true", help="leave bare yt-dlp out")
    options = parser.parse_args()
    bad = all_of_ours()
    if not options.ours:
        all_of_bare()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
