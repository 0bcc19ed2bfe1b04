"""Windows that share a forward, as on a GPU: each gets the rows it has alone, to rounding, whatever
its neighbours are.

A CPU computes them here, made to put them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from models.extractors.base import inference, resizing_extractor
from models.extractors.base.precision import rounding_error
from models.extractors.golden import golden_outputs
from models.extractors.golden.output_error import output_errors
from models.extractors.keypoint_rcnn import boxes
from models.extractors.registry import EXTRACTORS

SMALL: dict[str, dict[str, Any]] = {
    "keypoint_rcnn": {"min_size_pixels": 96, "max_size_pixels": 192},
    "yolov5": {"input_pixels": 160},
}
slow = pytest.mark.slow


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets windows of one kind share a forward; the sizes of the batches there were."""
    sizes: list[int] = []
    real = inference.split_into_batches

    def batches(windows: Sequence[Any], _: str, kind: Callable[[Any], Any]) -> list[list[Any]]:
        found = real(windows, "cuda", kind)
        sizes.extend(map(len, found))
        return found

    monkeypatch.setattr(resizing_extractor, "split_into_batches", batches)
    monkeypatch.setattr(boxes, "PROPOSALS", 100)  # of keypoint R-CNN, in place of a thousand
    return sizes


@pytest.mark.parametrize("resize", ["parity", pytest.param("fast", marks=slow)])
@pytest.mark.parametrize(
    "name",
    [pytest.param("c3d", marks=slow), "keypoint_rcnn", pytest.param("tased", marks=slow), "yolov5"],
)
def test_rows_are_those_of_the_window_alone(name: str, resize: str, together: list[int]) -> None:
    spec = EXTRACTORS[name]
    settings = golden_outputs.golden_settings(spec, resize=resize, **SMALL.get(name, {}))
    extractor = spec.build(settings, "random:0", "cpu")
    length = golden_outputs.window_frames(spec.sampling(settings))
    frames = [extractor.prepare(frame) for frame in golden_outputs.synthetic_clip(length + 2)]
    turned = [
        extractor.prepare(frame.transpose(1, 0, 2).copy())
        for frame in golden_outputs.synthetic_clip(length)
    ]
    windows = [
        frames[:length],
        frames[2 : length + 2],
        *([] if name == "keypoint_rcnn" else [turned, frames[:length]]),
    ]
    found = extractor.extract(windows)
    unlike = (
        resize == "fast" or name == "yolov5"
    )  # C3D and TASED-Net squeeze all frames to one shape
    assert together == ([len(windows)] if not unlike or len(windows) == 2 else [2, 1, 1])
    alone = [extractor.extract([window]) for window in windows]
    reference = {array: [row[array][0] for row in alone] for array in found}
    for array, drift in output_errors(reference, found).items():
        near = rounding_error(name, array, settings)
        assert not drift.exceeds(near), f"{array}: {drift}"


@pytest.mark.parametrize("size", [None, (12, 20)])
def test_frames_that_clips_share_go_to_a_gpu_once(
    size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (10, 9, 16, 3), np.uint8))
    clips = [frames[start : start + 4] for start in (0, 1, 3, 6)]
    expected = inference.stack_clips(clips, "cpu", size)
    brought: list[int] = []

    def stacked(given: Sequence[Any], _: str) -> torch.Tensor:
        brought.append(len(given))
        return torch.from_numpy(np.stack(given)).permute(0, 3, 1, 2)

    monkeypatch.setattr(inference, "stack_frames", stacked)
    found = inference.stack_clips(clips, "cuda", size)
    assert brought == [10]
    assert found.shape == (4, 3, 4, *(size or (9, 16)))
    assert torch.equal(found, expected)


def test_neighbours_of_one_kind_share_a_batch_in_order() -> None:
    windows = [1, 1, 2, 1, 3, 3]
    assert inference.split_into_batches(windows, "cuda", lambda window: window) == [
        [1, 1],
        [2],
        [1],
        [3, 3],
    ]
    assert inference.split_into_batches(windows, "cuda") == [windows]
    assert inference.split_into_batches(windows, "cpu") == [[window] for window in windows]
