"""A real YOLOv5 checkpoint from its file to persons in a real clip, beside arithmetic that is
written down here again.

The file is pickled and comes from a third party, so it is never unpickled: tensors and attributes
of layers come from the inert reader. What is done with them follows `models/yolo.py`, `detect.py`
and `utils/general.py` of ultralytics/yolov5 v6.0, in plain torch functions, without folded norms,
and with the anchors in pixels that the file holds under `anchor_grid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.extractors.yolov5.extractor import build_extractor
from models.extractors.yolov5.settings import YOLOv5Settings
from models.weights.file_formats import read_checkpoint
from models.weights.loading import to_tensor
from models.weights.state_dict import Checkpoint
from pipeline.weights.weights_folder import WeightsFolder, file_sha256, prepare_weights
from storage.base.errors import UntrustedFile

NAME, PERSON = "v6.0/yolov5n.pt", 0
SCORE, OVERLAP, PIXELS = 0.25, 0.45, 640


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(shared_data: Path) -> Path:
    file = shared_data / "weights" / "yolov5n-v6.0-coco.pt"
    if not file.is_file():
        pytest.skip(
            f"LOUD SKIP: the real checkpoint is not at {file}; this test proves nothing here"
        )
    return file


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> list[NDArray[np.uint8]]:
    """Two of the clip in which men wrestle with their arms, and others watch."""
    with av.open(str(shared_data / "videos" / "mmaction_demo.mp4")) as container:
        shown = [
            np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)
        ]
    return [shown[10], shown[103]]


class Published:
    """The network of a file, layer by layer as its own attributes say."""

    def __init__(self, read: Checkpoint) -> None:
        self.tensors = {name: to_tensor(stored).float() for name, stored in read.tensors.items()}
        self.layers: dict[str, Any] = dict(read.facts["modules"])

    def attributes(self, layer: str) -> dict[str, Any]:
        found: dict[str, Any] = self.layers[layer]["attributes"]
        return found

    def conv(self, x: Tensor, name: str) -> Tensor:
        said = self.attributes(f"{name}.conv")
        x = functional.conv2d(
            x, self.tensors[f"{name}.conv.weight"], None, said["stride"], said["padding"]
        )
        mean, variance, weight, bias = (
            self.tensors[f"{name}.bn.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.batch_norm(
            x, mean, variance, weight, bias, eps=self.attributes(f"{name}.bn")["eps"]
        )
        return x * x.sigmoid()

    def c3(self, x: Tensor, name: str) -> Tensor:
        y, number = self.conv(x, f"{name}.cv1"), 0
        while f"{name}.m.{number}" in self.layers:
            inner = self.conv(self.conv(y, f"{name}.m.{number}.cv1"), f"{name}.m.{number}.cv2")
            y = y + inner if self.attributes(f"{name}.m.{number}")["add"] else inner
            number += 1
        return self.conv(torch.cat((y, self.conv(x, f"{name}.cv2")), 1), f"{name}.cv3")

    def sppf(self, x: Tensor, name: str) -> Tensor:
        pooled = [self.conv(x, f"{name}.cv1")]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, 1, 2))
        return self.conv(torch.cat(pooled, 1), f"{name}.cv2")

    def prediction(self, x: Tensor) -> Tensor:
        """`(1, N, 85)` as the evaluated Detect layer gives it."""
        outputs: list[Tensor] = []
        run = {"Conv": self.conv, "C3": self.c3, "SPPF": self.sppf}
        for number in range(24):
            name = f"model.{number}"
            kind, source = self.layers[name]["class"].rpartition(".")[2], self.attributes(name)["f"]
            several = [
                outputs[i] if i >= 0 else x
                for i in (source if isinstance(source, list) else [source])
            ]
            if kind == "Concat":
                x = torch.cat(several, 1)
            elif kind == "Upsample":
                x = several[0].repeat_interleave(2, 2).repeat_interleave(2, 3)
            else:
                x = run[kind](several[0], name)
            outputs.append(x)
        return torch.cat(
            [
                self.level(outputs[i], level)
                for level, i in enumerate(self.attributes("model.24")["f"])
            ],
            1,
        )

    def level(self, x: Tensor, level: int) -> Tensor:
        name = f"model.24.m.{level}"
        x = functional.conv2d(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])
        height, width = x.shape[2:]
        y = x.view(1, 3, 85, height, width).permute(0, 1, 3, 4, 2).sigmoid()
        grid = torch.stack(
            torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1
        )
        stride, pixels = (
            self.attributes("model.24")["stride"][level],
            self.tensors["model.24.anchor_grid"][level],
        )
        boxes = torch.cat(
            ((y[..., :2] * 2 - 0.5 + grid) * stride, (y[..., 2:4] * 2) ** 2 * pixels), -1
        )
        return torch.cat((boxes, y[..., 4:]), -1).view(1, -1, 85)


def letterboxed(frame: NDArray[np.uint8]) -> tuple[Tensor, float, tuple[float, float]]:
    """`(1, 3, H, W)` 0 to 1, what the frame was scaled by, and the padding at the left and the
    top.
    """
    height, width = frame.shape[:2]
    gain = min(PIXELS / height, PIXELS / width)
    inner = round(width * gain), round(height * gain)
    dw, dh = (PIXELS - inner[0]) % 32 / 2, (PIXELS - inner[1]) % 32 / 2
    picture = cv2.resize(frame, inner, interpolation=cv2.INTER_LINEAR)
    top, bottom, left, right = (round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1))
    picture = cv2.copyMakeBorder(
        picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114)
    )
    whole = picture.shape[:2]
    gain = min(whole[0] / height, whole[1] / width)
    pads = ((whole[1] - width * gain) / 2, (whole[0] - height * gain) / 2)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255, gain, pads


def detections(
    prediction: Tensor, gain: float, pads: tuple[float, float], frame: NDArray[np.uint8]
) -> NDArray[Any]:
    """`(n, 6)` in pixels of the frame, best first: boxes of one class that overlap go, as a plain
    loop decides.
    """
    rows = prediction[0].numpy().astype(np.float64)
    rows = rows[rows[:, 4] > SCORE]
    scores = rows[:, 5:] * rows[:, 4:5]
    corners = np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2), 1)
    found = np.column_stack((corners, scores.max(1), scores.argmax(1)))
    found = found[found[:, 4] > SCORE]
    kept: list[NDArray[Any]] = []
    for row in found[np.argsort(-found[:, 4])]:
        if all(one[5] != row[5] or overlap(one, row) <= OVERLAP for one in kept):
            kept.append(row)
    boxes = np.array(kept).reshape(-1, 6)
    height, width = frame.shape[:2]
    boxes[:, [0, 2]] = ((boxes[:, [0, 2]] - pads[0]) / gain).clip(0, width)
    boxes[:, [1, 3]] = ((boxes[:, [1, 3]] - pads[1]) / gain).clip(0, height)
    return boxes


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union."""
    sides = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
    both = float(np.prod(sides.clip(0)))
    areas = [float(np.prod(box[2:4] - box[:2])) for box in (one, other)]
    return both / (sum(areas) - both)


@torch.inference_mode()
def test_the_imported_file_finds_the_persons_that_published_arithmetic_finds(
    checkpoint: Path, frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    folder = WeightsFolder(tmp_path / "weights")
    imported = folder.add_file(NAME, checkpoint, "imported")
    with checkpoint.open("rb") as file:
        published = Published(read_checkpoint(file))
    assert "model.24.anchor_grid" in published.tensors
    weights = prepare_weights(str(imported), f"sha256:{file_sha256(imported)}", folder.converted)
    ours = build_extractor(YOLOv5Settings(arrays=("detections",), size="n"), weights, "cpu")
    for frame in frames:
        picture, gain, pads = letterboxed(frame)
        expected = detections(published.prediction(picture), gain, pads, frame)
        (found,) = ours.extract([[ours.prepare(frame)]])["detections"]
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found[:, 5], expected[:, 5])
        np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-4)
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.05)
        assert (found[:, 5] == PERSON).sum() >= 3


@pytest.mark.parametrize(
    "name", ["v6.0/yolov5s.pt", "v5.0/yolov5s.pt", "yolov5nu.pt", "TASED_updated.pt"]
)
def test_under_another_name_it_is_not_imported(checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = WeightsFolder(tmp_path / "weights")
    with pytest.raises(UntrustedFile, match="and is not taken"):
        folder.add_file(name, checkpoint, "imported")
    assert [path for path in folder.path.rglob("*") if path.is_file()] == []
