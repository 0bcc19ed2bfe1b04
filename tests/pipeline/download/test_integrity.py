"""Whole files of every container are whole; the same files cut anywhere are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.child_processes import run_to_end
from pipeline.download import integrity
from pipeline.download.integrity import check_integrity
from pipeline.media.container.truncation import missing_bytes
from storage.base.errors import VideoError
from tests.pipeline.media.test_media_file import MUXERS
from tests.support.videos import FFMPEG, ffmpeg

SECONDS = 4


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four seconds in every container, and an mp4 whose header comes first."""
    folder = tmp_path_factory.mktemp("videos")
    made = {}
    for suffix, (muxer, codec) in {**MUXERS, ".faststart": ("mp4", "libx264")}.items():
        made[suffix] = folder / f"video{suffix}"
        picture = ("-f", "lavfi", "-i", f"testsrc=size=64x48:rate=10:duration={SECONDS}")
        options = ("-movflags", "+faststart") if suffix == ".faststart" else ()
        ffmpeg(*picture, "-c:v", codec, "-pix_fmt", "yuv420p", *options, "-f", muxer, made[suffix])
    return made


KINDS = [*MUXERS, ".faststart"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_no_damage(videos: dict[str, Path], kind: str) -> None:
    assert check_integrity("v", videos[kind], float(SECONDS)).damage == ""


@pytest.mark.usefixtures("counted_here")
@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_found(videos: dict[str, Path], tmp_path: Path, kind: str) -> None:
    content = videos[kind].read_bytes()
    cut = tmp_path / "cut"
    for share in (0.3, 0.6, 0.9):
        cut.write_bytes(content[: round(len(content) * share)])
        assert check_integrity("v", cut, float(SECONDS)).damage != "", f"{kind} cut at {share}"


# A transport stream has neither an end nor a length; any other container misses its very last byte.
@pytest.mark.parametrize("kind", KINDS)
def test_one_missing_byte_is_found_from_the_container_alone(
    videos: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    assert missing_bytes(videos[kind]) == ""
    content = videos[kind].read_bytes()
    for lost in (1, 2, 17, 100, 1000):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:-lost])
        assert missing_bytes(cut) != "", f"{kind} without its last {lost} bytes"


def test_a_site_that_declares_more_than_came_is_believed(videos: dict[str, Path]) -> None:
    assert (
        check_integrity("v", videos[".mp4"], SECONDS + 1.9).damage == ""
    )  # a site states whole seconds: 2 s are allowed
    assert (
        check_integrity("v", videos[".mp4"], SECONDS + 2.1).damage
        == "4.000 s of 6.100 s that its site declares"
    )


def test_a_whole_file_without_a_picture_is_left_to_the_decoder(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", sound)
    finding = check_integrity("v", sound)
    assert (finding.damage, finding.opens) == ("", False)


def test_a_hanging_count_is_a_verdict(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "COUNT_SECONDS", 0.001)
    monkeypatch.setattr(run_to_end, "LOOK_SECONDS", 0.001)
    with pytest.raises(VideoError, match=r"quarantined:hang \(counting its packets: .*0\.001 s"):
        check_integrity("v", videos[".mp4"])


@pytest.mark.parametrize("count", [b"", b"\0" * 4096])
def test_bytes_that_are_no_container_do_not_open(tmp_path: Path, count: bytes) -> None:
    path = tmp_path / "nothing"
    path.write_bytes(count)
    assert check_integrity("v", path).damage == "it does not open: its container is not supported"


def test_what_ffmpeg_says_of_the_held_example_is_what_is_counted(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    cut = tmp_path / "half.mp4"
    content = videos[".faststart"].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    command = [
        FFMPEG,
        "-v",
        "error",
        "-i",
        str(cut),
        "-map",
        "0:v:0",
        "-c",
        "copy",
        "-f",
        "framecrc",
        "-",
    ]
    packets = subprocess.run(
        command, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    copied = sum(not line.startswith("#") for line in packets)
    # The last packet is cut; ffmpeg drops it, the count takes it and calls it damaged.
    assert (
        f"1 damaged packets; {copied + 1} packets of {SECONDS * 10} declared"
        in check_integrity("v", cut).damage
    )


def test_counting_starts_without_numpy() -> None:
    """A child is started for each download: half of what a start took was numpy."""
    code = "import sys, pipeline.media.container.packet_counts; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PICTURE = ("-f", "lavfi", "-i", f"testsrc=size=64x48:rate=10:duration={SECONDS}")
STREAMED = {
    "live.mkv": ("-c:v", "libx264", "-g", "10", "-f", "matroska", "-live", "1"),
    "live.webm": ("-c:v", "libvpx", "-g", "10", "-b:v", "200k", "-f", "webm", "-live", "1"),
    "live-with-sound.mkv": (
        "-f",
        "lavfi",
        "-i",
        "sine=duration=4",
        "-c:v",
        "libx264",
        "-g",
        "10",
        "-live",
        "1",
    ),
    "indexed.mp4": (
        "-c:v",
        "libx264",
        "-g",
        "10",
        "-movflags",
        "frag_keyframe+empty_moov+default_base_moof+global_sidx",
    ),
    "dash.mp4": (
        "-c:v",
        "libx264",
        "-g",
        "10",
        "-movflags",
        "dash+delay_moov+global_sidx+frag_keyframe",
    ),
}
"""Files that say of their parts how long they are, and not of themselves."""


@pytest.mark.usefixtures("counted_here")
@pytest.mark.parametrize("name", STREAMED)
def test_a_streamed_file_that_holds_less_than_its_parts_state_is_not_whole(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    ffmpeg(*PICTURE, *STREAMED[name], "-pix_fmt", "yuv420p", path)
    whole = path.read_bytes()
    assert missing_bytes(path) == check_integrity("v", path).damage == ""
    # Where a live file is cut between two blocks nothing is missed; an index of segments knows
    # better.
    for lost in (1, 7, 30, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:-lost])
        assert missing_bytes(path) != "", f"{name} without its last {lost} bytes"
        assert check_integrity("v", path).damage != ""


def test_a_fragmented_file_cut_between_fragments_is_cut_by_its_index_of_segments(
    tmp_path: Path,
) -> None:
    path = tmp_path / "v.mp4"
    ffmpeg(*PICTURE, "-pix_fmt", "yuv420p", *STREAMED["indexed.mp4"], path)
    whole = path.read_bytes()
    third = whole.index(b"moof", whole.index(b"moof", whole.index(b"moof") + 1) + 1) - 4
    path.write_bytes(whole[:third])
    assert "the segment index says it ends at byte" in missing_bytes(path)


def test_a_live_file_of_clusters_without_a_size_is_walked_block_by_block(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    ffmpeg(*PICTURE, "-pix_fmt", "yuv420p", *STREAMED["live.mkv"], path)
    whole, cluster = path.read_bytes(), b"\x1f\x43\xb6\x75"
    at = whole.rindex(cluster) + 4
    width = 9 - whole[at].bit_length()
    unknown = bytes([0xFF >> (width - 1)]) + b"\xff" * (width - 1)
    sizeless = whole[:at] + unknown + whole[at + width :]
    path.write_bytes(sizeless)
    assert missing_bytes(path) == ""
    path.write_bytes(sizeless[:-5])
    assert "the element at byte" in missing_bytes(path)


def test_an_index_that_knows_pictures_behind_the_end(tmp_path: Path) -> None:
    """Its last box is said to reach to the end of the file, wherever that is."""
    path = tmp_path / "v.mp4"
    ffmpeg(*PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", path)
    whole = path.read_bytes()
    at = whole.index(b"mdat") - 4
    open_ended = whole[:at] + bytes(4) + whole[at + 4 :]
    path.write_bytes(open_ended)
    assert check_integrity("v", path).damage == ""
    path.write_bytes(open_ended[:-40])
    assert missing_bytes(path) == ""
    assert "its index has pictures up to byte" in check_integrity("v", path).damage


def test_a_transport_stream_with_a_hole_of_whole_packets_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "v.ts"
    ffmpeg(*PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p", path)
    whole = path.read_bytes()
    assert missing_bytes(path) == ""
    at = len(whole) // 188 // 2 * 188
    path.write_bytes(whole[:at] + bytes(188 * 3) + whole[at + 188 * 3 :])
    assert (
        missing_bytes(path) == f"3 of its {len(whole) // 188:,} packets do not begin as packets do"
    )
    camcorder = tmp_path / "v.m2ts"
    ffmpeg(
        *PICTURE,
        "-c:v",
        "libx264",
        "-pix_fmt",
        "yuv420p",
        "-mpegts_m2ts_mode",
        "1",
        "-f",
        "mpegts",
        camcorder,
    )
    whole = camcorder.read_bytes()
    assert missing_bytes(camcorder) == ""
    camcorder.write_bytes(whole[: 192 * 9] + bytes(192) + whole[192 * 10 :])
    assert (
        missing_bytes(camcorder)
        == f"1 of its {len(whole) // 192:,} packets do not begin as packets do"
    )
