"""Both backends against Detectron2 itself, where that package is installed; a loud skip where it is
not.

In an environment that has it: `python -m pytest
tests/models/extractors/test_keypoint_rcnn_detectron2.py -m "slow or not slow"`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.extractors.keypoint_rcnn.extractor import (
    KeypointRCNNExtractor,
    build_extractor,
    load_network,
)
from models.extractors.keypoint_rcnn.settings import KeypointRCNNSettings
from tests.models.goldens import make_keypoint_rcnn as maker
from tests.models.goldens.formula import frames

NEEDS = pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None,
    reason="LOUD SKIP: detectron2 is not installed; neither backend was compared with it here (goldens were)",
)
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
STEP = 12
TIE = 1e-3
"""Two heatmap values that differ by less, of maps that spread by about 1, are a near-tie."""


@pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed here"
)
def test_says_that_the_package_is_missing() -> None:
    with pytest.raises(
        ValueError, match=r"backend = detectron2, but that package is not installed\. Build it"
    ):
        KeypointRCNNSettings(backend="detectron2")


@NEEDS
def test_the_backends_agree() -> None:
    found = []
    for backend in ("torchvision", "detectron2"):
        settings = KeypointRCNNSettings(min_size_pixels=maker.MIN_SIZE, backend=backend)
        one = build_extractor(settings, f"random:{maker.SEED}", "cpu")
        found.append(
            one.extract(
                [[one.prepare(frames(1, *shape)[0])] for shape in (*maker.SHAPES, (32, 32))]
            )
        )
    ours, theirs = found
    for name in ours:
        for mine, its in zip(ours[name], theirs[name], strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-3)


def real_frames(folder: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """`count` frames of each shared video, `STEP` native frames apart."""
    for path in sorted((folder / "videos").iterdir()):
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number >= STEP * count:
                    break
                if number % STEP == 0:
                    yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def below_the_peak(joint: NDArray[Any], heatmap: NDArray[Any], box: NDArray[Any]) -> float:
    """How much lower than its highest value the `(56, 56)` heatmap over `box` is at `joint`,
    enlarged to the box.
    """
    sizes = np.maximum(box[2:] - box[:2], 1)
    width, height = np.ceil(sizes).astype(int).tolist()
    enlarged = functional.interpolate(
        torch.from_numpy(heatmap)[None, None], (height, width), mode="bicubic"
    )[0, 0]
    column, row = np.round((joint - box[:2]) / sizes * (width, height) - 0.5).astype(int).tolist()
    return float(enlarged.max() - enlarged[row, column])


def assert_like_reference(
    found: dict[str, Any], expected: dict[str, Any], scale: NDArray[Any]
) -> int:
    """The bars for one frame, resized by `scale` (x, y); how many joints lie elsewhere, each at a
    near-tie.
    """
    assert len(found["boxes"]) == len(expected["boxes"])
    np.testing.assert_allclose(found["boxes"][:, :4], expected["boxes"][:, :4], atol=0.01, rtol=0)
    np.testing.assert_allclose(found["boxes"][:, 4], expected["boxes"][:, 4], atol=1e-4, rtol=0)
    away = np.abs(found["joints"][..., :2] - expected["joints"][..., :2]).max(axis=-1) > 0.05
    error = np.abs(found["joint_features"] - expected["joint_features"])[~away].max(initial=0)
    assert error <= 1e-3 * np.abs(expected["joint_features"]).max(initial=0)
    for person, joint in np.argwhere(away):
        place = found["joints"][person, joint, :2] * scale
        assert (
            below_the_peak(
                place, expected["heatmaps"][person, joint], expected["picture_boxes"][person]
            )
            < TIE
        )
    return int(away.sum())


@NEEDS
@pytest.mark.slow
@pytest.mark.parametrize(("min_size", "count"), [(320, 12), (800, 2)])
def test_equals_detectron2_on_real_frames(
    shared_data: Path, tmp_path: Path, min_size: int, count: int
) -> None:
    network = load_network("random:3")
    maker.write_zoo_file(tmp_path / "seeded.pkl", network.state_dict())
    predictor = maker.predictor(tmp_path / "seeded.pkl", min_size)
    one = KeypointRCNNExtractor(
        network, KeypointRCNNSettings(min_size_pixels=min_size, max_persons=100), "cpu"
    )
    joints = away = with_persons = 0
    for frame in real_frames(shared_data, count):
        with torch.inference_mode():
            expected = maker.reference(predictor, frame)
        prepared = one.prepare(frame)
        found = {name: array[0] for name, array in one.extract([[prepared]]).items()}
        scale = np.array(prepared.picture.shape[1::-1]) / np.array(frame.shape[1::-1])
        away += assert_like_reference(found, expected, scale)
        joints += 17 * len(expected["boxes"])
        with_persons += len(expected["boxes"]) > 0
    assert with_persons >= (20 if count >= 12 else 1)
    assert away <= 0.001 * joints
