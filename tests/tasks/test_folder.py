"""A folder as people fill it: other suffixes and names, files of other types, and files that are
put right later.

Three runs of the real command tell one story: what is found, what the others are, and what the next
run looks at again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.support.luigi_server import run_luigi

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1")
CODECS: dict[str, tuple[str, ...]] = {
    ".3gp": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    ".m2ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    ".ogv": ("-c:v", "libtheora"),
    ".wmv": ("-c:v", "wmv2"),
    ".mpg": ("-c:v", "mpeg2video", "-r", "25"),
    ".gif": (),
}
CENC = (
    "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb",
    "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8",
)  # fmt: skip


def film(path: Path, *options: str) -> None:
    """A film of ten pictures in the container that the name asks for."""
    codec = options or CODECS.get(path.suffix.lower(), ("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *PICTURE, *codec, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)


@dataclass(frozen=True)
class Run:
    """One run of the command."""

    exit_code: int
    output: str

    @property
    def equation(self) -> str:
        """How many videos are in which state."""
        (found,) = re.findall(r"\d+ ids = .*", self.output)
        return str(found)

    def detail(self, video_id: str) -> str:
        """What the run told of a video as it ended."""
        told = [
            line
            for line in self.output.splitlines()
            if line.startswith("shard ") and f"  {video_id}  " in line
        ]
        return told[-1].partition(f"{video_id}  ")[2] if told else ""


def build(root: Path, folder: Path, *options: str) -> Run:
    words = [
        "--module", "tasks", "BuildPHD2Features",
        "--data-root", str(root / "data"), "--data-shards", "1",
        "--phd2-testing", str(root / "table.csv"), "--download-source", str(folder),
        "--extract-extractors", "frames", *options,
    ]  # fmt: skip
    done = run_luigi(root, *words, environment={"PATH": str(Path(sys.executable).parent)})
    assert "Traceback" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout + done.stderr)


def table(root: Path, *video_ids: str) -> None:
    rows = [f"{video_id},0.1,0.5,7,-1,True" for video_id in video_ids]
    header = "youtubeId,start,duration,user_id,video_duration,is_last"
    (root / "table.csv").write_text("\n".join([header, *rows, ""]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


def test_a_folder_is_looked_into_again_on_each_run(tmp_path: Path, folder: Path) -> None:
    whole = (
        "phone_3gp00",
        "camera_m2ts",
        "theora_ogv0",
        "upper_Case0",
        "downloaded0",
        "twice_there",
    )
    other = (
        "windows_wmv",
        "moving_gif0",
        "mpeg_ps_mpg",
        "encrypted_0",
        "web_page_00",
        "unfinished0",
        "absent_0000",
    )
    table(tmp_path, *whole, *other)
    film(folder / "phone_3gp00.3gp")
    film(folder / "camera_m2ts.m2ts")
    film(folder / "theora_ogv0.ogv")
    film(folder / "mp4.mp4")
    for name in (
        "upper_Case0.Mp4",
        "A title with [brackets] [downloaded0].mp4",
        "twice_there.mp4",
        "twice_there.mkv",
    ):
        shutil.copy(folder / "mp4.mp4", folder / name)
    for name in ("windows_wmv.wmv", "moving_gif0.gif", "mpeg_ps_mpg.mpg"):
        film(folder / name)
    film(folder / "encrypted_0.mp4", *CODECS[".3gp"], *CENC)
    (folder / "web_page_00.mp4").write_text(
        "<!DOCTYPE html><html><title>Sign in</title>" + "<p>please</p>" * 50
    )
    shutil.copy(folder / "mp4.mp4", folder / "unfinished0.mp4.part")

    first = build(tmp_path, folder)
    assert first.exit_code == 0
    assert (
        first.equation == "13 ids = 6 done + 2 unavailable + 5 rejected + 0 pending + 0 quarantined"
    ), first.output
    assert (
        "not_a_video (the file is a Windows Media file (WMV, ASF), which is not taken)"
        in first.detail("windows_wmv")
    )
    assert "not_a_video (the file is a GIF picture, which is not taken)" in first.detail(
        "moving_gif0"
    )
    assert "an MPEG program stream (MPG, VOB), which is not taken" in first.detail("mpeg_ps_mpg")
    assert (
        "unreadable (the pictures are encrypted (Common Encryption); the file has no key)"
        in first.detail(other[3])
    )
    assert (
        "not_a_video (the file is an HTML page, which begins with b'<!DOCTYPE html>"
        in first.detail("web_page_00")
    )
    assert "it has unfinished0.mp4.part, an unfinished download" in first.detail("unfinished0")
    assert "done, but with several files in the folder, or another one before: 1" in first.output
    assert "twice_there: twice_there.mp4 was read, twice_there.mkv not" in first.output

    unchanged = build(tmp_path, folder)
    assert "done again" not in unchanged.output
    assert unchanged.equation == first.equation

    (folder / "unfinished0.mp4.part").rename(folder / "unfinished0.mp4")
    shutil.copy(folder / "mp4.mp4", folder / "web_page_00.mp4")
    shutil.copy(folder / "mp4.mp4", folder / "windows_wmv.mp4")
    os.utime(folder / "moving_gif0.gif", ns=(0, 0))
    second = build(tmp_path, folder)
    assert "phd2: 4 failed videos have other files now: done again" in second.output
    assert (
        second.equation
        == "13 ids = 9 done + 1 unavailable + 3 rejected + 0 pending + 0 quarantined"
    ), second.output

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "mp4.mp4", elsewhere / "v_absent_0000.MP4")
    shutil.copy(folder / "mp4.mp4", elsewhere / "Decrypted [encrypted_0].mp4")
    third = build(tmp_path, elsewhere)
    assert "phd2: 2 failed videos have other files now: done again" in third.output
    assert (
        third.equation
        == "13 ids = 11 done + 0 unavailable + 2 rejected + 0 pending + 0 quarantined"
    ), third.output
