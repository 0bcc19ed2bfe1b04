"""A reel shows exactly the frames of its parts, keeps sound, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.reel import check_place, cut_reel
from storage.base.errors import SettingsError, VideoError
from tests.support.videos import coded_video, ffmpeg, read_code


def codes(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [
            read_code(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            for frame in container.decode(video=0)
        ]


def loudness(path: Path) -> list[float]:
    """Of each tenth of a second."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        waves = np.concatenate(
            [frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)]
        )
    return [
        float(np.abs(piece).mean())
        for piece in np.split(waves, range(rate // 10, len(waves), rate // 10))
    ]


def test_a_reel_shows_the_frames_of_its_parts_in_order(tmp_path: Path) -> None:
    video, reel = coded_video(tmp_path / "video.mp4", 100), tmp_path / "out" / "reel.mp4"
    cut_reel(video, [(1.0, 1.5), (7.0, 7.4), (3.0, 3.2)], reel)
    assert codes(reel) == [10, 11, 12, 13, 14, 70, 71, 72, 73, 30, 31]
    assert [path.name for path in reel.parent.iterdir()] == ["reel.mp4"]


@pytest.mark.parametrize(
    ("name", "offset"),
    [("late.mkv", 20), ("late.flv", 5000), ("usual.ts", 0), ("late.ts", 95000), ("late.mp4", 7)],
)
def test_times_count_from_the_containers_start(name: str, offset: int, tmp_path: Path) -> None:
    video, pictures = tmp_path / name, coded_video(tmp_path / "video.mp4", 60)
    ffmpeg("-i", pictures, "-c", "copy", *(("-output_ts_offset", offset) if offset else ()), video)
    cut_reel(video, [(1.0, 1.3)], tmp_path / "reel.mp4")
    assert codes(tmp_path / "reel.mp4") == [10, 11, 12]


def test_sound_comes_along(tmp_path: Path) -> None:
    silent, video, reel = (
        coded_video(tmp_path / "silent.mp4", 40),
        tmp_path / "video.mp4",
        tmp_path / "reel.mp4",
    )
    tone = "aevalsrc=if(gte(t\\,2)\\,0.5*sin(2000*t)\\,0):d=4"
    ffmpeg("-i", silent, "-f", "lavfi", "-i", tone, "-c:v", "copy", "-c:a", "aac", video)
    cut_reel(video, [(0.5, 1.0), (2.5, 3.0)], reel)
    heard = loudness(reel)
    assert max(heard[:4]) < 0.01 < 0.1 < min(heard[6:9])
    assert codes(reel) == [5, 6, 7, 8, 9, 25, 26, 27, 28, 29]


def test_sides_that_are_odd_are_padded(tmp_path: Path) -> None:
    video = tmp_path / "odd.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=63x31:d=1:r=10", "-c:v", "ffv1", video)
    cut_reel(video, [(0.2, 0.6)], tmp_path / "reel.mp4")
    with av.open(str(tmp_path / "reel.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (64, 32)


def test_nothing_is_overwritten_and_no_half_reel_stays(tmp_path: Path) -> None:
    video, reel = coded_video(tmp_path / "video.mp4", 20), tmp_path / "reel.mp4"
    reel.write_bytes(b"mine")
    with pytest.raises(SettingsError, match="is there already"):
        cut_reel(video, [(0.0, 1.0)], reel)
    assert reel.read_bytes() == b"mine"
    for parts in ([], [(1.0, 1.0)]):
        with pytest.raises(SettingsError, match="longer than nothing"):
            cut_reel(video, parts, tmp_path / "other.mp4")
    with pytest.raises(SettingsError, match=r"is an \.mp4 file"):
        cut_reel(video, [(0.0, 1.0)], tmp_path / "reel.avi")
    with pytest.raises(SettingsError, match="shows nothing in"):
        cut_reel(video, [(100.0, 101.0)], tmp_path / "other.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:600])
    with pytest.raises(VideoError, match="unreadable"):
        cut_reel(broken, [(0.0, 1.0)], tmp_path / "other.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n" + "x" * 100)
    with pytest.raises(VideoError, match="not_a_video"):
        cut_reel(tmp_path / "list.mp4", [(0.0, 1.0)], tmp_path / "other.mp4")
    assert not (tmp_path / "other.mp4").exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "video.mp4",
        "reel.mp4",
        "broken.mp4",
        "list.mp4",
    }


@pytest.mark.parametrize(
    "name",
    [
        "a:b.mp4",
        "12:30.mp4",
        "-reel.mp4",
        "-y.mp4",
        "file:x.mp4",
        "%03d.mp4",
        "a b'c\"d.mp4",
        "\u6f22.MP4",
        "?x=1#y.mp4",
    ],
)
def test_a_reel_may_have_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named from the folder it is to lie in, as people do."""
    coded_video(tmp_path / "video.mp4", 20)
    (tmp_path / "video.mp4").rename(tmp_path / f"of {name}.mp4")
    monkeypatch.chdir(tmp_path)
    cut_reel(Path(f"of {name}.mp4"), [(0.5, 0.8)], Path(name))
    assert codes(tmp_path / name) == [5, 6, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"of {name}.mp4"])


@pytest.mark.parametrize(
    ("place", "told"),
    [("x.mkv", "is an .mp4"), ("file/x.mp4", "is not a folder"), ("-", "is an .mp4")],
)
def test_where_no_reel_can_be_is_told_before_anything_is_made(
    place: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match=told):
        check_place(tmp_path / place)
