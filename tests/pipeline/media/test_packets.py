"""Clocks that jump: joined recordings and flipped bits, beside what the ffmpeg program makes of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.backends.fallback import ReaderFailed, shown_packets
from pipeline.decoding.events import DecodeEnd, WindowEvent
from pipeline.decoding.frame_timing import picture_times
from pipeline.decoding.video_reader import DecodeSummary, VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.download.integrity import check_integrity
from pipeline.media.container.packets import Tally
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.probe import probe
from storage.base.errors import VideoError
from tests.support.backend_conformance import by_ffmpeg
from tests.support.videos import ffmpeg

RATE = 10


def stream(
    path: Path, seconds: float, *options: str, codec: str = "libx264", size: str = "64x48"
) -> Path:
    source = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={RATE}:duration={seconds}")
    quick = (
        ("-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "2") if codec == "libx264" else ()
    )
    ffmpeg(*source, "-c:v", codec, *quick, *options, path)
    return path


def times_and_summary(path: Path) -> tuple[list[float], DecodeSummary]:
    decoding = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    times = [frame.pts_seconds for frame in decoding]
    return times, decoding.summary()


def ffmpegs_times(path: Path) -> list[float]:
    """With ffmpeg's own handling of jumps, from 0 on."""
    only = ("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux")
    told = ffmpeg(
        "-loglevel", "quiet", "-threads", "1", "-i", path, *only, "-f", "framemd5", "-"
    ).decode()
    base = next(
        Fraction(line.split()[-1]) for line in told.splitlines() if line.startswith("#tb 0")
    )
    return [
        float(int(line.split(",")[2]) * base)
        for line in told.splitlines()
        if not line.startswith("#")
    ]


SOUND = ("-f", "lavfi", "-i", "sine=duration=3", "-c:a", "aac")
JOINED: dict[str, tuple[str, list[dict[str, object]]]] = {
    "twice the same": ("ts", [{}, {}]),
    "three": ("ts", [{}, {}, {}]),
    "the second began later": ("ts", [{}, {"options": ("-output_ts_offset", "2")}]),
    "the first began hours later": ("ts", [{"options": ("-output_ts_offset", "40000")}, {}]),
    "the second began days later": ("ts", [{}, {"options": ("-output_ts_offset", "80000")}]),
    "mpeg2": ("ts", [{"codec": "mpeg2video"}, {"codec": "mpeg2video"}]),
    "chained ogg": ("ogv", [{"codec": "libtheora"}, {"codec": "libtheora"}]),
}


@pytest.mark.parametrize("name", JOINED)
def test_every_picture_of_joined_streams_is_a_row_at_a_sensible_time(
    name: str, tmp_path: Path
) -> None:
    suffix, parts = JOINED[name]
    made = [
        stream(
            tmp_path / f"{n}.{suffix}",
            3,
            *one.get("options", ()),  # type: ignore[misc]
            codec=str(one.get("codec", "libx264")),
        )
        for n, one in enumerate(parts)
    ]
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(one.read_bytes() for one in made))
    reference = ffmpegs_times(path)
    with SubprocessDecoder() as child:
        *events, end = child.decode("v", path, [EveryFrame()])
    rows = [event.window for event in events if isinstance(event, WindowEvent)]
    assert isinstance(end, DecodeEnd)
    assert len(rows) == len(reference) == 30 * len(parts)
    starts = np.array([row.start_seconds for row in rows])
    assert np.all(np.diff(starts) > 0)
    assert starts - starts[0] == pytest.approx(np.array(reference) - reference[0], abs=0.45)
    assert end.summary.clock_jumps == len(parts) - 1
    told = picture_times(path, end.probe, lambda: None, 10**6)
    assert told is not None
    assert len(told.times_seconds) >= len(rows)
    assert set(starts) <= set(told.times_seconds)


def test_whole_readers_leave_a_clock_that_jumps_to_pyav(tmp_path: Path) -> None:
    path = tmp_path / "joined.ts"
    path.write_bytes(stream(tmp_path / "one.ts", 2).read_bytes() * 2)
    with pytest.raises(ReaderFailed, match=r"clock that jumps|damaged"):
        shown_packets(path, probe("v", path, DEFAULT_LIMITS), Tally())


def test_a_true_gap_of_minutes_stays(tmp_path: Path) -> None:
    gap = ("-vf", "setpts='if(lt(N,15),PTS,PTS+120/TB)'", "-fps_mode", "passthrough")
    path = stream(tmp_path / "gap.ts", 3, *gap)
    times, summary = times_and_summary(path)
    assert len(times) == 30
    assert summary.clock_jumps == 0
    assert max(np.diff(times)) == pytest.approx(120.1, abs=0.01)


def pes_times(whole: bytes) -> list[int]:
    """Where the time fields of a transport stream's pictures begin: 10 bytes each, when to show and
    when to decode.
    """
    found = []
    for at in range(0, len(whole), 188):
        place = whole.find(b"\0\0\1\xe0", at, at + 188)
        if place >= 0 and whole[place + 7] >> 6 == 3:
            found.append(place + 9)
    return found


def shifted(field: bytes, ticks: int) -> bytes:
    value = (
        (field[0] >> 1 & 7) << 30
        | (field[1] << 7 | field[2] >> 1) << 15
        | (field[3] << 7 | field[4] >> 1)
    )
    value = (value + ticks) % (1 << 33)
    high, middle, low = value >> 30, value >> 15 & 0x7FFF, value & 0x7FFF
    return bytes(
        [
            field[0] & 0xF1 | high << 1,
            middle >> 7,
            (middle << 1 & 0xFF) | 1,
            low >> 7,
            (low << 1 & 0xFF) | 1,
        ]
    )


def moved(whole: bytes, number: int, seconds: float, *, decoding_too: bool) -> bytes:
    place, ticks = pes_times(whole)[number], round(seconds * 90000)
    whole = whole[:place] + shifted(whole[place : place + 5], ticks) + whole[place + 5 :]
    if decoding_too:
        place += 5
        whole = whole[:place] + shifted(whole[place : place + 5], ticks) + whole[place + 5 :]
    return whole


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: moved(whole, 8, 3600 * 5, decoding_too=True),
        lambda whole: moved(whole, 8, 30, decoding_too=True),
        lambda whole: moved(whole, 8, -1.5, decoding_too=True),
        lambda whole: moved(whole, 8, 3600 * 5, decoding_too=False),
    ],
    ids=["hours ahead", "seconds ahead", "back", "hours ahead, only when it is shown"],
)
def test_a_flipped_bit_in_one_time_costs_one_picture_at_most(
    change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = stream(tmp_path / "whole.ts", 4)
    whole_times, _ = times_and_summary(path)
    path.write_bytes(change(path.read_bytes()))
    times, summary = times_and_summary(path)
    assert summary.clock_jumps >= 1
    assert summary.frames_decoded + summary.frames_dropped == len(by_ffmpeg(path))
    assert summary.frames_dropped <= 1
    assert len(set(whole_times) - set(times)) <= 1
    assert max(times) == pytest.approx(max(whole_times), abs=1e-6)


def test_joined_files_of_other_containers_tell_what_is_lost(tmp_path: Path) -> None:
    flv, mkv = tmp_path / "joined.flv", tmp_path / "joined.mkv"
    flv.write_bytes(stream(tmp_path / "one.flv", 2).read_bytes() * 2)
    assert len(by_ffmpeg(flv)) == 20  # ffmpeg does not read behind the first either
    times, summary = times_and_summary(flv)
    assert (len(times), summary.decode_errors) == (20, 0)
    assert "reading ends at byte" in summary.file_damage
    assert "reading ends at byte" in check_integrity("v", flv).damage
    mkv.write_bytes(stream(tmp_path / "one.mkv", 2).read_bytes() * 2)
    with pytest.raises(VideoError, match=r"bad_timestamps \(20 of 40 frames have no time"):
        times_and_summary(mkv)


@pytest.mark.parametrize("options", [("mp4",), ("mov",), ("mp4", "-movflags", "+faststart")])
def test_joined_files_with_an_index_each_tell_that_the_second_is_not_read(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    suffix, *flags = options
    one, path = stream(tmp_path / f"one.{suffix}", 2, *flags), tmp_path / f"joined.{suffix}"
    path.write_bytes(one.read_bytes() * 2)
    assert len(by_ffmpeg(path)) == 20  # ffmpeg does not read the second either
    times, summary = times_and_summary(path)
    assert len(times) == 20
    assert "a second moov box at byte " in summary.file_damage
    assert "a second moov box at byte " in check_integrity("v", path).damage
    assert times_and_summary(one)[1].file_damage == ""


def test_a_whole_flv_is_read_to_its_end(tmp_path: Path) -> None:
    flv = stream(tmp_path / "v.flv", 2)
    assert (times_and_summary(flv)[1].file_damage, check_integrity("v", flv).damage) == ("", "")


def test_a_demuxer_that_skips_damage_is_heard(tmp_path: Path) -> None:
    whole = stream(tmp_path / "whole.mkv", 4, "-g", "10").read_bytes()
    damages: dict[str, Callable[[int], bytes]] = {
        "zeroed": lambda at: whole[:at] + bytes(300) + whole[at + 300 :],
        "deleted": lambda at: whole[:at] + whole[at + 300 :],
        "doubled": lambda at: whole[:at] + whole[at - 300 :],
    }
    for name, damage in damages.items():
        path = tmp_path / f"{name}.mkv"
        path.write_bytes(damage(len(whole) // 2))
        times, summary = times_and_summary(path)
        assert len(times) < 40
        assert "complaints of the demuxer, first: " in summary.file_damage
        assert "complaints of the demuxer, first: " in check_integrity("v", path).damage
    # What was heard of one file is not told of the next.
    assert times_and_summary(tmp_path / "whole.mkv")[1].file_damage == ""
