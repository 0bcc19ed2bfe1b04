"""`doctor --videos`: each file decoded as a build would, and what is wrong or unusual said."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.diagnostics.check_videos import VideoCheck, check_videos
from pipeline.media.decode_settings import DEFAULT_LIMITS
from tests.support.faulty_server import MKV, MP4
from tests.support.videos import ffmpeg

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=2")
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    (folder / "whole.mp4").write_bytes(MP4)
    (folder / "torn.mkv").write_bytes(MKV[: len(MKV) // 2])
    (folder / "text.mp4").write_text("not a film, though it says so\n" * 9)
    ffmpeg(*PICTURE, *H264, "-frames:v", "5", folder / "short.mp4")
    ffmpeg(*PICTURE, *H264, "-vf", "setsar=4/3", folder / "wide.mp4")
    ffmpeg(*PICTURE, *H264, "-x264opts", "tff=1", folder / "interlaced.mp4")
    return folder


@pytest.fixture(scope="module")
def checks(folder: Path) -> dict[str, VideoCheck]:
    return {
        check.path.stem: check
        for check in check_videos(sorted(folder.iterdir()), DEFAULT_LIMITS, decoders=2)
    }


def test_every_file_has_a_verdict(checks: dict[str, VideoCheck]) -> None:
    assert {name: check.verdict for name, check in checks.items()} == {
        "whole": "fine",
        "torn": "damaged",
        "text": "unreadable",
        "short": "odd",
        "wide": "odd",
        "interlaced": "odd",
    }


def test_what_is_said_of_each(checks: dict[str, VideoCheck]) -> None:
    assert "rejected:not_a_video" in checks["text"].problem
    assert "not square (4:3)" in checks["wide"].oddities[0]
    assert "5 frames" in checks["short"].oddities[0]
    assert "interlaced" in checks["interlaced"].oddities[0]
    assert checks["whole"].description == "mov h264 64x48, 10.00 frames/s, 2.00 s"


def test_the_command_lists_all_and_ends_with_1_if_one_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--videos", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "6 files: 1 fine, 3 odd, 1 damaged, 1 unreadable" in printed
    assert main(["doctor", "--videos", str(folder / "whole.mp4")]) == 0


def test_a_list_of_addresses_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(MP4)
    (tmp_path / "list.txt").write_text("a.mp4\nhttps://youtu.be/16WT8mzB-bM\ngone.mp4\nftp://x\n")
    assert main(["doctor", "--videos", str(tmp_path / "list.txt")]) == 1
    printed = capsys.readouterr().out
    assert "2 files: 1 fine, 0 odd, 0 damaged, 1 unreadable; 1 addresses and ids" in printed
    assert "line 4: 'ftp://x'" in printed
