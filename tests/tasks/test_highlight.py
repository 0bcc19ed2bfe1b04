"""`luigi --module tasks HighlightVideo`: a new video and liked parts of others in, a timeline and a
reel out.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import av
import pytest
import torch

from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant
from storage.base.errors import SettingsError
from tasks.highlight import parse_request
from tests.support.luigi_server import TRAINER, YOLOV5, run_luigi
from tests.support.sample_builds import command
from tests.support.videos import ffmpeg
from trainer.config.recipe import load_recipe
from trainer.training.checkpoint import Checkpoint, write_checkpoint

YOLO = {"arrays": ("p5",), "size": "n", "frames_per_second": 1.0, "input_pixels": 64}


def film(path: Path, seconds: int, *sound: str) -> Path:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size=160x120:rate=12:duration={seconds}",
        *sound,
        "-preset",
        "ultrafast",
        path,
    )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos with names as people give them, one with sound, and a network that was never
    trained.
    """
    folder = tmp_path_factory.mktemp("films")
    film(folder / "my wedding (1).mp4", 17, "-f", "lavfi", "-i", "sine=d=17", "-c:a", "aac")
    film(folder / "old.mp4", 6)
    variant = Variant(
        "yolov5", EXTRACTORS["yolov5"], EXTRACTORS["yolov5"].settings_type(**YOLO), "random:0"
    )
    recipe = load_recipe("pr_net", changes=['data.arrays=["yolov5/p5"]'], small=True)
    shapes = {"yolov5/p5": tuple(variant.arrays["p5"].item_shape)}
    torch.manual_seed(0)
    about = {
        "recipe_name": recipe.name,
        "recipe": dict(recipe.table),
        "is_small": True,
        "seed": 0,
        "trained_on": {"yolov5": variant.description()},
        "shapes": {key: list(shape) for key, shape in shapes.items()},
    }
    model = recipe.spec.build(recipe.model_settings, shapes)
    write_checkpoint(folder / "model.safetensors", Checkpoint(about, {"model": model.state_dict()}))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data root for all commands: what was proven of this machine is not proven again."""
    return tmp_path_factory.mktemp("place")


def luigi(place: Path, files: Path, *options: str) -> subprocess.CompletedProcess[str]:
    video, model = files / "my wedding (1).mp4", files / "model.safetensors"
    words = command("HighlightVideo", "--video", str(video), "--model", str(model))[1:]
    return run_luigi(place, *words, "--seconds", "10", *options, preload=(*YOLOV5, *TRAINER))


def test_a_new_video_becomes_a_timeline_and_a_reel(files: Path, place: Path) -> None:
    liked = ("--history", f"{files / 'old.mp4'}:1-3.5, {files / 'old.mp4'}:4-5")
    ended = luigi(place, files, *liked)
    assert ended.returncode == 0, ended.stderr
    told = dict(re.findall(r"^(json|picture|reel) +(.+)$", ended.stdout, re.MULTILINE))
    table = json.loads((place / told["json"]).read_text())
    assert [segment["end"] for segment in table["segments"][:3]] == [5, 10, 15]
    assert {clip["video_id"][:4] for clip in table["history"]} == {"old-"}
    assert len(table["history"]) == 2
    assert any("random:0" in note for note in table["notes"])
    assert (place / told["picture"]).read_bytes().startswith(b"\x89PNG")
    with av.open(str(place / told["reel"])) as reel:
        assert [stream.type for stream in reel.streams] == ["video", "audio"]
        shown = sum(1 for _ in reel.decode(video=0)) / 12
    assert 5 <= shown <= 10.1
    assert re.search(r"^length   [\d.]+ of at most 10 seconds", ended.stdout, re.MULTILINE)
    assert ended.stderr.index("videos: 0/2 videos, begun") < ended.stderr.index(
        "videos: 2/2 videos"
    )
    best = sorted(segment["rank"] for segment in table["segments"] if segment["rank"] <= 2)
    assert ended.stdout.count(" *\n") == len(best)
    again = luigi(place, files, *liked)
    assert again.returncode == 0
    assert (
        again.stdout
        == f"reel     {told['reel']} (cut by an earlier run; its timeline lies beside it)\n"
    )


def test_a_reel_of_somebody_else_is_not_overwritten(files: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.mp4"
    mine.write_bytes(b"mine")
    ended = luigi(tmp_path, files, "--reel", str(mine))
    assert ended.returncode == 2
    assert "is there already" in ended.stderr
    assert mine.read_bytes() == b"mine"


def test_a_file_that_is_no_video_is_told_in_plain_words(
    files: Path, place: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((files / "old.mp4").read_bytes()[:500])
    ended = luigi(place, files, "--history", f"{broken}:1-2")
    assert ended.returncode == 2
    assert "broken.mp4 gives no yolov5" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("video", "history", "says"),
    [
        ("no.mp4", (), "there is no file"),
        ("notes.txt", (), "is not a video by its name"),
        ("old.mp4", ("old.mp4",), "FILE:START-END"),
        ("old.mp4", ("x.mp4:3-2",), "FILE:START-END"),
        ("old.mp4", ("old.mp4:1-2",), "takes clips of other videos"),
    ],
)
def test_requests_that_are_none_are_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch, video: str, history: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(files)
    (files / "notes.txt").write_text("x")
    with pytest.raises(SettingsError, match=says):
        parse_request(video, "model.safetensors", history)


def test_paths_may_hold_colons_and_dashes(tmp_path: Path) -> None:
    for name in ("a:1-2.mp4", "b.mp4", "m.safetensors"):
        (tmp_path / name).write_text("x")
    found = parse_request(
        str(tmp_path / "b.mp4"), str(tmp_path / "m.safetensors"), (f"{tmp_path}/a:1-2.mp4:3-4.5",)
    )
    (part,) = found.liked
    assert (part.file.name, part.start, part.end) == ("a:1-2.mp4", 3.0, 4.5)
