"""The sample as files: the same bytes twice, and each trouble of the web once."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.datasets.readers.phd2 import read_phd2_catalog
from pipeline.synthetic.user_videos import SMALL, SampleSize, read_scenes, write_sample
from storage.base.errors import IntegrityError
from storage.catalog.catalog import Catalog
from tests.support.videos import cli_frames

TINY = SampleSize(
    (("train", 2), ("test", 2)), 3, (0.5, 0.7), width=32, height=24, pool=4, edge_cases=True
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample")
    write_sample(path)
    return path


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Catalog:
    return read_phd2_catalog(
        {"train": folder / "training.csv", "test": folder / "testing.csv"}, name="sample"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def frame_times(path: Path) -> list[float]:
    """Times of all frames that decode before the first error, if there is one."""
    times = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                times.append(float(frame.time or 0))
        except av.error.InvalidDataError:
            return times
    return times


def test_the_same_size_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    write_sample(tmp_path / "one", TINY, progress=lambda now, of: done.append((now, of)))
    write_sample(tmp_path / "two", TINY)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert done == [
        (number, 10) for number in range(1, 11)
    ]  # 2 groups of 4 videos, one short, one dead


def test_a_second_writing_changes_nothing_and_another_seed_is_refused(tmp_path: Path) -> None:
    write_sample(tmp_path, TINY)
    before = contents(tmp_path)
    write_sample(tmp_path, TINY)
    assert contents(tmp_path) == before
    with pytest.raises(IntegrityError):
        write_sample(tmp_path, TINY, seed=2)


def test_small_is_small(folder: Path, catalog: Catalog) -> None:
    duration = sum(scenes[-1][1] for scenes in read_scenes(folder).values())
    assert 110 < duration <= 130
    assert (len(catalog.users), len(catalog.videos)) == (5, 12)
    assert {len(video.video_id) for video in catalog.videos} == {11}
    assert any(video.video_id.startswith("-") for video in catalog.videos)


def test_small_is_drawn_in_full(folder: Path, catalog: Catalog) -> None:
    files = {path.stem for path in folder.glob("*.mp4")}
    missing = {video.video_id for video in catalog.videos} - files
    assert (len(missing), len(files)) == (1, 11), "one dead link"
    assert [
        video.claimed_duration_seconds for video in catalog.videos if video.video_id in missing
    ] == [None]


def test_small_has_each_trouble_once(folder: Path) -> None:
    troubles: dict[str, list[str]] = defaultdict(list)
    scenes = read_scenes(folder)
    for path in sorted(folder.glob("*.mp4")):
        times = frame_times(path)
        gaps = np.diff(times)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            declared, rotation = stream.frames, next(container.decode(stream)).rotation
        troubles["slowing"] += [path.stem] if gaps.max() > 1.5 * gaps.min() else []
        troubles["turned"] += [path.stem] if rotation else []
        troubles["short"] += [path.stem] if len(times) < 16 else []
        troubles["damaged"] += [path.stem] if len(times) < declared else []
        if path.stem not in troubles["damaged"]:
            assert times[0] == 0
            assert times[-1] + gaps[-1] == pytest.approx(scenes[path.stem][-1][1], abs=0.15)
    assert {trouble: len(ids) for trouble, ids in troubles.items()} == dict.fromkeys(troubles, 1)
    damaged = folder / f"{troubles['damaged'][0]}.mp4"
    assert (
        0.3 * scenes[damaged.stem][-1][1]
        < frame_times(damaged)[-1]
        < 0.9 * scenes[damaged.stem][-1][1]
    )


def test_a_turned_video_shows_as_wide_as_the_others(folder: Path) -> None:
    for path in folder.glob("*.mp4"):
        with av.open(str(path)) as container:
            if next(container.decode(video=0)).rotation:
                shown = cli_frames(path, SMALL.height, SMALL.width)
                assert len(shown) == container.streams.video[0].frames


def test_every_user_has_a_history_and_one_target(catalog: Catalog) -> None:
    roles = defaultdict(list)
    for link in catalog.links:
        roles[link.user_id].append(link.role)
    assert all(
        of_user.count("target") == 1 and of_user.count("history") >= 4 for of_user in roles.values()
    )
