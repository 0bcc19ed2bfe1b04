"""Keypoint R-CNN against what Detectron2 itself gave (goldens), and its parts against
arithmetic.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.extractors.base.sampling import EveryFrame, FramesAtRate
from models.extractors.keypoint_rcnn.boxes import (
    best_persons,
    best_proposals,
    cell_anchors,
    pyramid_levels,
)
from models.extractors.keypoint_rcnn.extractor import (
    KeypointRCNNExtractor,
    build_extractor,
    load_network,
    resized_size,
)
from models.extractors.keypoint_rcnn.keypoints import decode_keypoints, features_at_keypoints
from models.extractors.keypoint_rcnn.network import KeypointRCNN
from models.extractors.keypoint_rcnn.settings import ARRAYS, KEYPOINTS, KeypointRCNNSettings
from models.extractors.keypoint_rcnn.weights import IGNORED
from models.extractors.registry import EXTRACTORS
from tests.models.goldens.formula import frames
from tests.models.goldens.make_keypoint_rcnn import (
    CHANNELS,
    GOLDEN,
    MIN_SIZE,
    SEED,
    SHAPES,
    table_digest,
    write_zoo_file,
)
from tests.models.goldens.reference import relative_error

SMALL = KeypointRCNNSettings(min_size_pixels=MIN_SIZE)


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def network() -> KeypointRCNN:
    return load_network(f"random:{SEED}")


def rows(
    network: KeypointRCNN, settings: KeypointRCNNSettings, *shapes: tuple[int, int]
) -> dict[str, list[Any]]:
    """What the extractor gives for the first formula frame of each (height, width)."""
    one = KeypointRCNNExtractor(network, settings, "cpu")
    found = one.extract([[one.prepare(frames(1, *shape)[0])] for shape in shapes])
    return {name: list(array) for name, array in found.items()}


@pytest.fixture(scope="module")
def alone(network: KeypointRCNN) -> list[dict[str, list[Any]]]:
    """What it gives for a frame of each shape, one at a time."""
    return [rows(network, SMALL, shape) for shape in SHAPES]


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_gives_what_detectron2_gives(
    golden: dict[str, NDArray[Any]], alone: list[dict[str, list[Any]]], height: int, width: int
) -> None:
    expected = {name: golden[f"{height}x{width}/{name}"] for name in ARRAYS}
    assert len(expected["boxes"]) == 5  # of many persons, the five that are kept
    found = {name: array[0] for name, array in alone[SHAPES.index((height, width))].items()}
    np.testing.assert_allclose(found["boxes"][:, :4], expected["boxes"][:, :4], atol=0.01, rtol=0)
    np.testing.assert_allclose(found["boxes"][:, 4], expected["boxes"][:, 4], atol=1e-4, rtol=0)
    np.testing.assert_allclose(
        found["joints"][..., :2], expected["joints"][..., :2], atol=0.05, rtol=0
    )
    assert relative_error(found["joints"][..., 2], expected["joints"][..., 2]) <= 1e-3
    assert (
        relative_error(found["joint_features"][..., CHANNELS], expected["joint_features"]) <= 1e-3
    )
    assert {name: (array.dtype, array.shape[1:]) for name, array in found.items()} == {
        name: (np.float32, spec.item_shape) for name, spec in ARRAYS.items()
    }


def test_resizes_to_the_same_bytes(golden: dict[str, NDArray[Any]], network: KeypointRCNN) -> None:
    one = KeypointRCNNExtractor(network, SMALL, "cpu")
    for height, width in SHAPES:
        prepared = one.prepare(frames(1, height, width)[0])
        assert prepared.frame_size == (height, width)
        assert isinstance(prepared.picture, np.ndarray)
        assert (
            hashlib.sha256(prepared.picture.tobytes()).hexdigest()
            == golden[f"{height}x{width}/picture_sha256"]
        )


def test_chooses_the_same_sizes(golden: dict[str, NDArray[Any]]) -> None:
    table = golden["sizes"].tolist()
    assert len(table) == 112
    for height, width, shorter, longest, *expected in table:
        assert resized_size(height, width, shorter, longest) == tuple(expected)


def test_has_the_tensors_of_detectron2(
    golden: dict[str, NDArray[Any]], network: KeypointRCNN
) -> None:
    assert table_digest(network.state_dict()) == golden["table_sha256"]


def test_a_frame_alone_and_beside_another_is_the_same(
    network: KeypointRCNN, alone: list[dict[str, list[Any]]]
) -> None:
    both = rows(network, SMALL, *SHAPES)
    for name in ARRAYS:
        assert np.array_equal(alone[1][name][0], both[name][1])


def test_fewer_persons_are_the_first_of_more(
    network: KeypointRCNN, alone: list[dict[str, list[Any]]]
) -> None:
    settings = KeypointRCNNSettings(min_size_pixels=MIN_SIZE, max_persons=2)
    five, two = alone[0], rows(network, settings, SHAPES[0])
    assert np.all(np.diff(five["boxes"][0][:, 4]) <= 0)
    assert np.array_equal(two["boxes"][0], five["boxes"][0][:2])
    np.testing.assert_allclose(two["joints"][0], five["joints"][0][:2], rtol=1e-4)


def test_an_empty_frame_is_a_row_without_persons(network: KeypointRCNN) -> None:
    settings = KeypointRCNNSettings(min_size_pixels=64, score_threshold=1.0)
    found = rows(network, settings, (64, 64))
    assert {name: array[0].shape for name, array in found.items()} == {
        "boxes": (0, 5),
        "joints": (0, 17, 3),
        "joint_features": (0, 17, 512),
    }


def test_loads_the_file_of_the_model_zoo(tmp_path: Path, network: KeypointRCNN) -> None:
    tensors = network.state_dict()
    constants = {name: torch.zeros(3) for name in IGNORED}
    path = tmp_path / "model_final_a6e10b.pkl"
    write_zoo_file(path, tensors | constants)
    loaded = load_network(str(path)).state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_refuses_tensors_too_many_and_too_few(tmp_path: Path, network: KeypointRCNN) -> None:
    tensors = network.state_dict()
    path = tmp_path / "model_final.pth"
    torch.save({"mask_head.bias": torch.zeros(1), **dict(list(tensors.items())[1:])}, path)
    with pytest.raises(
        ValueError,
        match=r"conv1\.weight .* is missing\n.*mask_head\.bias .* is not part of the network",
    ):
        load_network(str(path))


def test_another_seed_is_another_network(network: KeypointRCNN) -> None:
    name = "backbone.bottom_up.res3.1.conv2.weight"
    other = load_network(f"random:{SEED + 1}").get_parameter(
        name
    )  # the goldens prove that a seed always gives the same
    assert not torch.equal(other, network.get_parameter(name))


def test_anchors_are_not_rounded() -> None:
    # 32·32 pixels, half as high as wide: w = 32·√2, h = 32/√2; torchvision says ±23 and ±11
    half_width, half_height = 16 * math.sqrt(2), 16 / math.sqrt(2)
    expected = np.array([[-half_width, -half_height, half_width, half_height], [-16, -16, 16, 16]])
    np.testing.assert_allclose(cell_anchors(32)[:2], expected, rtol=1e-6)


def test_no_proposal_is_empty_or_outside() -> None:
    logits = [torch.zeros(3, 2, 3) for _ in range(5)]
    deltas = [
        torch.full((12, 2, 3), -4.0) for _ in range(5)
    ]  # everything far to the left of and above the picture
    assert best_proposals(logits, deltas, (8, 12)).shape == (0, 4)


def test_suppresses_and_sorts_persons() -> None:
    boxes = torch.tensor(
        [[0, 0, 10, 10], [0, 0, 10, 9], [-5, 2, 8, 30], [1, 1, 2, 2]], dtype=torch.float32
    )
    scores = torch.tensor([0.3, 0.9, 0.5, 0.05])
    found, kept = best_persons(boxes, scores, (20, 20), score_threshold=0.05, nms_threshold=0.5)
    # the first overlaps the second by 90/100; the last scores no more than the threshold; the third
    # is cut at 0 and 20
    assert found.tolist() == [[0, 0, 10, 9], [0, 2, 8, 20]]
    assert kept.tolist() == pytest.approx([0.9, 0.5])


@pytest.mark.parametrize(
    ("side", "level"), [(10, 0), (111, 0), (112, 1), (223, 1), (224, 2), (448, 3), (3000, 3)]
)
def test_larger_boxes_are_pooled_higher(side: int, level: int) -> None:
    # floor(4 + log2(side / 224)), within p2 to p5
    assert pyramid_levels(torch.tensor([[5.0, 5.0, 5.0 + side, 5.0 + side]])).tolist() == [level]


def test_a_joint_is_the_middle_of_the_highest_pixel() -> None:
    heatmaps = torch.zeros(1, 1, 56, 56)
    heatmaps[0, 0, 20, 33] = 10
    found = decode_keypoints(heatmaps, torch.tensor([[100.0, 50.0, 156.0, 106.0]]))[0, 0]
    # a box of 56×56 pixels: nothing is enlarged; exp(0) / (exp(0) + 3135 exp(-10))
    np.testing.assert_allclose(
        found, [100 + 33.5, 50 + 20.5, 1 / (1 + 3135 * math.exp(-10))], rtol=1e-5
    )
    narrow = decode_keypoints(heatmaps, torch.tensor([[100.0, 50.0, 127.5, 106.0]]))[0, 0]
    # 27.5 pixels wide: 28 columns, each 27.5/28 of a pixel; 33 of 56 falls on column 16
    np.testing.assert_allclose(narrow[:2], [100 + 16.5 * 27.5 / 28, 50 + 20.5], rtol=1e-5)


def test_features_are_read_where_the_joint_is() -> None:
    ramp = torch.arange(14.0).expand(1, 1, 14, 14)  # the value is the column
    box = torch.tensor([[10.0, 0.0, 38.0, 14.0]])  # two pixels a column
    joints = torch.tensor(
        [[[11.0, 7.0], [16.0, 7.0], [38.0, 1.0]]]
    )  # middle of column 0; between 2 and 3; edge
    np.testing.assert_allclose(
        features_at_keypoints(ramp, joints, box)[0, :, 0], [0, 2.5, 13], atol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"arrays": ("boxes", "boxes")}, "each once; got"),
        ({"frames_per_second": -1.0}, "at least 0; got -1.0"),
        ({"min_size_pixels": 900, "max_size_pixels": 800}, "must hold; got 900 and 800"),
        ({"score_threshold": 1.5}, "score_threshold must be 0 to 1; got 1.5"),
        ({"max_persons": 0}, "max_persons must be 1 to 100; got 0"),
        ({"backend": "tensorflow"}, "one of torchvision, detectron2; got 'tensorflow'"),
    ],
)
def test_settings_say_what_is_wrong(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        KeypointRCNNSettings(**settings)


def test_the_row_of_the_table() -> None:
    spec = EXTRACTORS["keypoint_rcnn"]
    settings = KeypointRCNNSettings(arrays=("joints",), frames_per_second=0, min_size_pixels=64)
    assert spec.sampling(settings) == EveryFrame()
    assert spec.sampling(KeypointRCNNSettings()) == FramesAtRate(2.0)
    assert set(spec.arrays(settings)) == {"joints"}
    assert len(KEYPOINTS) == 17
    built = build_extractor(settings, "random:0", "cpu")
    assert set(built.extract([[built.prepare(frames(1, 32, 48)[0])]])) == {"joints"}
