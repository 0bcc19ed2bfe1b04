"""How many of the network faults leave a wrong file behind an exit status of success: bare yt-dlp against this project.

    python -m benchmarks.download_faults

Everything happens on loopback. A wrong accept is a file that is none of the whole files a server held and is handed
over without a word; a file that is handed over with its damage stated is counted apart.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import yt_dlp

from pipeline.download.fetch import SourceSettings, fetch
from storage.errors import VideoError
from storage.layout import Layout
from tests.pipeline.mirror import running_mirror
from tests.pipeline.network_faults import FAULTS, WHOLE

BARE_LIMIT_BYTES = 5_000_000
"""The endless body must end somewhere, for yt-dlp too."""


def ours(template: str, folder: Path) -> str:
    """`right`, `WRONG`, `damage told` or the reason it was refused for."""
    source = SourceSettings(
        template, socket_timeout_seconds=1.0, backoff_seconds=0, max_bytes=BARE_LIMIT_BYTES, min_bytes_per_second=2000
    )
    try:
        media = fetch("abc", layout=Layout(folder, "phd2"), shard=0, source=source)
    except VideoError as error:
        return error.verdict.reason
    if "damage" in media.facts:
        return "damage told"
    return "right" if media.path.read_bytes() in WHOLE else "WRONG"


def bare(template: str, folder: Path) -> str:
    """The same for yt-dlp with its defaults, told the address as a site module would tell it."""
    options = {
        "quiet": True, "noprogress": True, "proxy": "", "socket_timeout": 1.0, "retries": 2,
        "max_filesize": BARE_LIMIT_BYTES, "outtmpl": str(folder / "video.%(ext)s"),
    }  # fmt: skip
    info = {"id": "abc", "title": "abc", "extractor": "mirror", "ext": "mp4", "url": template.format(id="abc")}
    with contextlib.redirect_stderr(io.StringIO()), yt_dlp.YoutubeDL(options) as client:
        try:
            client.process_ie_result(info, download=True)
        except yt_dlp.utils.YoutubeDLError:
            return "refused"
    path = folder / "video.mp4"
    if not path.exists():
        return "nothing"
    return "right" if path.read_bytes() in WHOLE else "WRONG"


def main() -> None:
    """Print one line per fault, and the sums."""
    wrong = {"ours": 0, "bare": 0}
    for name, fault in FAULTS.items():
        ends = {}
        for who, download in (("ours", ours), ("bare", bare)):
            with tempfile.TemporaryDirectory() as folder, running_mirror() as mirror:
                mirror.answers["abc"] = fault.fresh()
                ends[who] = download(mirror.template, Path(folder))
            wrong[who] += ends[who] == "WRONG"
        sys.stdout.write(f"{name:<40} ours: {ends['ours']:<14} bare yt-dlp: {ends['bare']}\n")
        sys.stdout.flush()
    sys.stdout.write(f"wrong accepts of {len(FAULTS)} faults: ours {wrong['ours']}, bare yt-dlp {wrong['bare']}\n")


if __name__ == "__main__":
    main()
