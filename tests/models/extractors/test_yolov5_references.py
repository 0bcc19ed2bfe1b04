"""YOLOv5 beside the authors' own code: the ultralytics package in the default lane, everything on
real video if asked.

`HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow tests/models/extractors/test_yolov5_references.py`,
where FOLDER holds checkouts of ultralytics/yolov5 at the tags v5.0 and v7.0, named yolov5-v5.0 and
yolov5-v7.0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.extractors.yolov5.boxes import letterbox
from models.extractors.yolov5.extractor import TorchDetector
from models.extractors.yolov5.network import YOLOv5
from models.extractors.yolov5.settings import MAPS, SIZES, YOLOv5Settings
from models.extractors.yolov5.weights import load_tensors
from tests.conftest import REPOSITORY
from tests.models.goldens import make_yolov5 as maker
from tests.models.goldens.reference import checkout, relative_error

WATCHED = """
import json, os, sys, tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from models.extractors.yolov5.spec import YOLOv5Settings
from models.extractors.yolov5.extractor import build_extractor
from tests.models.goldens.formula import frames

folder, acts = tempfile.gettempdir(), []

def watch(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.system", "os.fork"):
        acts.append([event, repr(arguments)])
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and not isinstance(arguments[0], int)
    if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink"):
        path = str(arguments[0])
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
        if not path.startswith(folder):
            acts.append([event, path])

torch.set_num_threads(1)
before = dict(os.environ), cv2.getNumThreads(), torch.save
sys.addaudithook(watch)
found = {}
for backend in ("torch", "ultralytics"):
    settings = YOLOv5Settings(("p3", "p4", "p5", "detections"), "n", "u", input_pixels=160, backend=backend)
    one = build_extractor(settings, "random:1", "cpu")
    for shape in ((150, 231), (211, 120), (64, 64)):
        row = one.extract([[one.prepare(frames(1, *shape)[0])]])
        for name, rows in row.items():
            found.setdefault(f"{shape} {name}", []).append(rows[0])
after = dict(os.environ), cv2.getNumThreads(), torch.save
kept = [first == second for first, second in zip(before, after, strict=True)]
errors = {
    name: float(np.abs(ours - theirs).max(initial=0) / max(1e-9, np.abs(theirs).max(initial=0)))
    for name, (ours, theirs) in found.items()
}
counts = {name: [len(ours), len(theirs)] for name, (ours, theirs) in found.items() if "detections" in name}
left = sorted(path.name for path in Path(folder).iterdir())
json.dump({"acts": acts, "kept": kept, "errors": errors, "counts": counts, "left": left}, sys.stdout)
"""
"""Both backends on the same frames, with all that is done to files and sockets written down."""


def test_the_ultralytics_package_agrees_and_does_nothing_else(tmp_path: Path) -> None:
    if find_spec("ultralytics") is None:
        pytest.skip("LOUD SKIP: the ultralytics package is not installed")
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    environment = {
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(REPOSITORY),
        "PATH": "/usr/bin:/bin",
    }
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    # Standard output holds the answer alone: the package would greet whoever imports it.
    process = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(process.stdout)
    assert found["acts"] == []
    # torch makes an empty folder for compiled code, whether or not it will compile.
    assert [name for name in found["left"] if not name.startswith("torchinductor_")] == []
    assert [path for path in home.rglob("*") if "ltralytics" in str(path)] == []
    assert found["kept"] == [True] * 3, "environment, OpenCV's threads, torch.save"
    assert all(ours == theirs for ours, theirs in found["counts"].values())
    assert sum(ours for ours, _ in found["counts"].values()) > 0
    assert max(found["errors"].values()) <= 1e-4, found["errors"]


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """As the references run: the number of threads changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def real_frames(video: Path, count: int) -> list[NDArray[np.uint8]]:
    """Every 60th frame, the first ones."""
    with av.open(str(video)) as container:
        shown = (
            frame for number, frame in enumerate(container.decode(video=0)) if number % 60 == 0
        )
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for _, frame in zip(range(count), shown)  # noqa: B905  the file may have more frames
        ]


def compared(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """Relative error of each array; of detections that of scores, and the largest distance of
    corners in pixels.
    """
    np.testing.assert_array_equal(found["picture"], expected["picture"])
    errors = {name: relative_error(found[name], expected[name]) for name in MAPS}
    theirs = expected["prediction"]
    scores = theirs[:, 5:] * theirs[:, 4:5] if theirs.shape[1] == 85 else theirs[:, 4:]
    errors["boxes"] = relative_error(found["boxes"], theirs[:, :4])
    errors["scores"] = relative_error(found["scores"], scores)
    ours, theirs = found["detections"], expected["detections"]
    assert ours.shape == theirs.shape
    # Equal scores up to rounding may stand in another order: each of theirs belongs to the nearest
    # of ours.
    nearest = np.abs(ours - theirs[:, None]).sum(axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(len(ours)))
    difference = np.abs(ours[nearest] - theirs)
    assert not difference[:, 5].any(), "a class"
    corners, score = difference[:, :4].max(initial=0), difference[:, 4].max(initial=0)
    return errors | {
        "detections": len(ours),
        "corner pixels": float(corners),
        "detection scores": float(score),
    }


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("video", ["flipping_a_pancake.mkv", "v_GGSY1Qvo990.mp4"])
@pytest.mark.parametrize(
    ("release", "size"),
    [("v5.0", "s"), ("v5.0", "m"), *(("v7.0", size) for size in "nsmlx"), ("u", "n"), ("u", "m")],
)
def test_real_video_equals_the_authors_code(
    shared_data: Path, tmp_path: Path, video: str, release: str, size: str
) -> None:
    """From the same uint8 frames and the same file, in the published format, to maps and
    detections.
    """
    folder = tmp_path if release == "u" else checkout(f"yolov5-{release}")
    frames, official = real_frames(shared_data / "videos" / video, 3), tmp_path / "official.pt"
    expected = maker.reference(release, size, folder, frames, official=str(official), pixels=640)
    settings = YOLOv5Settings(
        release=release, size=size, max_detections=300
    )  # what both functions keep by themselves
    network = YOLOv5(SIZES[size], release)
    network.load_state_dict(load_tensors(official, settings))
    detector = TorchDetector(network, settings, "cpu")
    for number, frame in enumerate(frames):
        picture = letterbox(frame, 640)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None]
        with torch.inference_mode():
            raw, chosen = network(pixels), detector(pixels, [(frame.shape[0], frame.shape[1])])
        found = {name: array[0].numpy() for name, array in raw.items()}
        found |= {"picture": picture, "detections": chosen.detections[0].numpy()}
        of_this = {
            name.partition("/")[2]: array
            for name, array in expected.items()
            if name.startswith(f"{number}/")
        }
        errors = compared(found, of_this)
        rounding = max(relative_error(found[name].astype(np.float16), found[name]) for name in MAPS)
        line = ", ".join(f"{name} {value:.1e}" for name, value in errors.items())
        sys.stdout.write(
            f"{release} {size} {video} {number}: {line}, rounding maps to float16 {rounding:.1e}\n"
        )
        assert max(errors[name] for name in (*MAPS, "boxes", "scores", "detection scores")) <= 1e-4
        assert errors["corner pixels"] <= 1e-4 * max(frame.shape)
