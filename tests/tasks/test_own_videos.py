"""Videos of one's own by the front door: a folder, a list of addresses, a table; grown, moved, named.

Every video is a film of noise that lasts two seconds; sites are a server on loopback.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import FeatureStore
from storage.catalog.catalog import read_catalog
from tests.support.faulty_server import MKV, MP4, OTHER, Mirror, body, running_mirror, status
from tests.support.luigi_server import run_luigi

FRAMES = ("--extract-extractors", "frames", "--frames-frames-per-second", "1")
HOSTILE = '=HYPERLINK("x"),<img src=x onerror=alert(1)>\n' + "y" * 300


def run(folder: Path, task: str, *options: str) -> subprocess.CompletedProcess[str]:
    done = run_luigi(
        folder,
        "--module",
        "tasks",
        task,
        *FRAMES,
        *options,
        environment={"PATH": str(Path(sys.executable).parent)},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def equation(done: subprocess.CompletedProcess[str]) -> str:
    (found,) = re.findall(r"\d+ ids = .*", output(done))
    return str(found)


@pytest.fixture
def site() -> Iterator[Mirror]:
    with running_mirror() as mirror:
        mirror.answers |= {"one.mp4": body(MP4), "two.mkv": body(MKV), "gone.mp4": status(404)}
        yield mirror


def test_a_folder_grows_moves_and_nothing_is_done_twice(tmp_path: Path) -> None:
    films = tmp_path / "My films"
    (films / "trip").mkdir(parents=True)
    (films / "one.mp4").write_bytes(MP4)
    (films / "trip" / "one.mp4").write_bytes(OTHER)
    (films / "Ein Tag, süß.mkv").write_bytes(MKV)
    first = run(tmp_path, "BuildVideoFeatures", "--videos", str(films))
    assert first.returncode == 0, output(first)
    assert "3 ids = 3 done" in equation(first)
    store = tmp_path / "data" / "my-films"
    before = FeatureStore(store)["frames"]
    assert {"one"} < set(before)
    rows = {video_id: before.entry(video_id).digest for video_id in before}
    # The next one names the catalog only, and finds the file that was added.
    (films / "zwei.mp4").write_bytes(MP4)
    second = run(tmp_path, "BuildFeatures", "--catalog", "my-films")
    assert "videos: 1/1 videos" in output(second)
    assert "4 ids = 4 done" in equation(second)
    moved = films.rename(tmp_path / "elsewhere")
    third = run(tmp_path, "BuildVideoFeatures", "--videos", str(moved), "--catalog", "my-films")
    assert "4 ids = 4 done" in equation(third)
    assert "videos: 0/" not in output(third)
    after = FeatureStore(store)["frames"]
    assert {video_id: after.entry(video_id).digest for video_id in rows} == rows
    links = {path.stem: path.resolve() for path in (store / "sources" / "links").iterdir()}
    assert links["one"] == moved / "one.mp4"


def test_a_list_of_several_sites_with_a_dead_one(tmp_path: Path, site: Mirror) -> None:
    base = site.template.replace("{id}", "")
    (tmp_path / "local.mp4").write_bytes(OTHER)
    lines = [
        f"{base}one.mp4",
        f"{base.replace('127.0.0.1', 'localhost')}two.mkv",
        f"{base}gone.mp4",
        "http://127.0.0.1:9/dead.mp4",
        "local.mp4",
        "file:///etc/hostname",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    options = ("--videos", "list.txt", "--download-attempts", "1")
    refused = run(tmp_path, "BuildVideoFeatures", *options)
    assert equation(refused).startswith("1 ids = 1 done")
    assert "5 unusable" in output(refused)
    assert site.requests == []
    allowed = run(tmp_path, "BuildVideoFeatures", *options, "--list-allow-private", "true")
    assert allowed.returncode == 3, output(allowed)
    expected = "5 ids = 3 done + 1 unavailable + 0 rejected + 1 pending + 0 quarantined"
    assert equation(allowed) == expected
    assert "pending:network" in output(allowed)
    assert "unavailable:not_found" in output(allowed)
    # A limiter for each site, shared by every later run.
    assert len(list((tmp_path / "data" / "egress").iterdir())) >= 3
    again = run(tmp_path, "BuildFeatures", "--catalog", "list-videos")
    assert equation(again) == expected


def test_users_of_a_table_with_hostile_titles(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(MP4)
    with (tmp_path / "likes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "start", "end", "user", "title"])
        writer.writerows(
            [
                ["a.mp4", "0", "0:01", "anna", HOSTILE],
                ["b.mp4", "0.5", "1.5", "anna", ""],
                ["b.mp4", "0.5", "1.5", "<b>bob</b>", ""],
                ["c.mp4", "1.5", "0.5", "<b>bob</b>", ""],
                ["c.mp4", "0", "1", "<b>bob</b>", ""],
            ]
        )
    done = run(tmp_path, "BuildVideoFeatures", "--videos", "likes.csv")
    assert done.returncode == 0, output(done)
    assert "3 videos, 4 annotations by 2 users" in output(done)
    assert "1 end_before_start, as in line" in output(done)
    catalog = read_catalog(tmp_path / "data" / "likes")
    assert catalog.metadata_by_video["a"]["title"] == HOSTILE
    assert {user.split for user in catalog.users} == {"train", "test"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--videos", "nowhere"), "path '.*nowhere' does not exist"),
        ((), "BuildVideoFeatures needs --videos"),
        (("--videos", "films", "--catalog", "phd2"), "phd2 is a dataset, a section of settings"),
        (("--videos", "films", "--catalog", "weights"), "weights is a dataset, a section"),
        (("--videos", "films", "--catalog", "My Films"), "--catalog is a name of 1 to 64 of"),
        (
            ("--videos", "films", "--list-columns", "begin: x"),
            r"\[list\] columns takes pairs like start: begin",
        ),
    ],
)
def test_wrong_options_end_before_anything_starts(
    tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").write_bytes(MP4)
    done = run(tmp_path, "BuildVideoFeatures", *options)
    assert done.returncode == 2
    assert re.search(told, done.stderr), done.stderr
    assert not (tmp_path / "data").exists()


def test_two_folders_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "films").mkdir(parents=True)
        (tmp_path / parent / "films" / f"{parent}.mp4").write_bytes(MP4)
    assert run(tmp_path, "BuildVideoFeatures", "--videos", "x/films").returncode == 0
    other = run(tmp_path, "BuildVideoFeatures", "--videos", "y/films")
    assert other.returncode == 2
    assert "was made from" in other.stderr
    joined = run(tmp_path, "BuildVideoFeatures", "--videos", "y/films", "--catalog", "films")
    assert "2 ids = 2 done" in equation(joined)


def test_a_section_declares_a_catalog(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").write_bytes(MP4)
    (tmp_path / "workflows.cfg").write_text(
        "[list.trip]\npath = films\n[trip.frames]\nframes_per_second = 2\n"
    )
    done = run_luigi(
        tmp_path, "--module", "tasks", "BuildFeatures", "--catalog", "trip",
        "--extract-extractors", "frames",
        environment={"PATH": str(Path(sys.executable).parent)},
    )  # fmt: skip
    assert "1 ids = 1 done" in equation(done)
    store = FeatureStore(tmp_path / "data" / "trip")["frames"]
    assert store.settings["settings"]["frames_per_second"] == 2.0


def test_the_front_door_of_phd2_does_not_take_a_folder_for_it(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    done = run(tmp_path, "BuildPHD2Features", "--download-source", "films")
    assert done.returncode == 2
    assert "BuildVideoFeatures --videos films" in done.stderr


def test_a_file_that_was_replaced_is_reported(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").write_bytes(MP4)
    assert run(tmp_path, "BuildVideoFeatures", "--videos", "films").returncode == 0
    (tmp_path / "films" / "one.mp4").write_bytes(OTHER)
    again = run(tmp_path, "BuildVideoFeatures", "--videos", "films")
    assert "1 videos have another file since their features were made (one)" in output(again)
    assert "1 ids = 1 done" in equation(again)
