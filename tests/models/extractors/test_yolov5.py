"""YOLOv5 of three releases against the authors' own numbers, and what is done with files that are
something else.

The authors' code itself runs in `test_yolov5_references.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.base.sampling import EveryFrame, FramesAtRate
from models.extractors.registry import EXTRACTORS
from models.extractors.yolov5.boxes import (
    NmsSettings,
    best_detections,
    letterbox,
    to_frame,
    to_frame_by_rounded_size,
)
from models.extractors.yolov5.extractor import TorchDetector, YOLOv5Extractor, build_extractor
from models.extractors.yolov5.network import STRIDES, YOLOv5
from models.extractors.yolov5.settings import MAPS, RELEASES, SIZES, YOLOv5Settings
from models.extractors.yolov5.weights import (
    ANCHOR_GRID,
    ANCHOR_GRID_SHAPE,
    expected_tensors,
    initialise,
    load_tensors,
)
from tests.models.goldens import make_yolov5 as maker
from tests.models.goldens.formula import frames

GOLDEN = json.loads(maker.GOLDEN.read_text())


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other take longer than these small pictures."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("release", "size", "tensors", "parameters"),
    [
        # As the releases count them when they build their networks; v5.0 holds its anchors once
        # more.
        ("v5.0", "s", 361, 7_276_605),
        ("v5.0", "x", 793, 87_775_965),
        ("v7.0", "n", 349, 1_872_157),
        ("v7.0", "s", 349, 7_235_389),
        ("v7.0", "m", 481, 21_190_557),
        ("v7.0", "l", 613, 46_563_709),
        ("v7.0", "x", 745, 86_749_405),
        ("u", "n", 427, 2_654_816),
        ("u", "x", 823, 97_276_448),
    ],
)
def test_networks_have_the_published_sizes(
    release: str, size: str, tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        network = YOLOv5(SIZES[size], release)
    assert len(network.state_dict()) == tensors
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert {norm.eps for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-3}


def detector(release: str, size: str, tensors: dict[str, Tensor], **settings: Any) -> TorchDetector:
    network = YOLOv5(SIZES[size], release)
    network.load_state_dict(tensors)
    return TorchDetector(network, YOLOv5Settings(release=release, size=size, **settings), "cpu")


@torch.inference_mode()
def looked_at(one: Any, frame: NDArray[np.uint8], pixels: int) -> dict[str, NDArray[Any]]:
    """What a detector finds in a frame, whole maps included."""
    picture = torch.from_numpy(letterbox(frame, pixels)).permute(2, 0, 1)[None]
    seen = one(picture, [frame.shape[:2]])
    arrays = {**{name: seen.maps[name][0] for name in MAPS}, "detections": seen.detections[0]}
    return {name: array.numpy() for name, array in arrays.items()} | {
        "picture": picture[0].permute(1, 2, 0).numpy()
    }


@pytest.mark.parametrize(("release", "size"), maker.NETWORKS)
def test_equals_the_authors_network_and_boxes(release: str, size: str) -> None:
    one = detector(release, size, maker.tensors(release, size))
    for height, width in maker.SHAPES:
        expected = GOLDEN["values"][f"{release} {size} {height}x{width}"]
        found = looked_at(one, frames(1, height, width)[0], maker.PIXELS)
        assert list(found["picture"].shape) == expected["picture"]
        for name in MAPS:
            difference = maker.thinned(found[name]) - np.array(expected[name])
            assert np.abs(difference).max() <= 1e-4 * expected[f"{name}_largest"]
        assert len(found["detections"]) == expected["count"]
        best = found["detections"][: maker.BEST]
        np.testing.assert_array_equal(best[:, 5], np.array(expected["detections"])[:, 5])
        np.testing.assert_allclose(best[:, 4], np.array(expected["detections"])[:, 4], atol=1e-4)
        np.testing.assert_allclose(
            best[:, :4], np.array(expected["detections"])[:, :4], atol=1e-4 * width
        )


@pytest.mark.parametrize(
    ("frame_size", "pixels", "scaled", "top", "left", "padded"),
    [
        (
            (720, 1280),
            640,
            (360, 640),
            12,
            0,
            (384, 640),
        ),  # 640 - 360 = 280 = 8 * 32 + 24, 12 above and 12 below
        ((1280, 720), 640, (640, 360), 0, 12, (640, 384)),
        ((240, 320), 640, (480, 640), 0, 0, (480, 640)),  # enlarged; 640 - 480 = 5 * 32
        ((64, 64), 64, (64, 64), 0, 0, (64, 64)),  # as it is
        ((150, 231), 320, (208, 320), 8, 0, (224, 320)),  # 207.8; 320 - 208 = 3 * 32 + 16
        (
            (99, 320),
            320,
            (99, 320),
            14,
            0,
            (128, 320),
        ),  # 320 - 99 = 6 * 32 + 29: 14 above, 15 below
        ((1, 2000), 320, (1, 320), 15, 0, (32, 320)),  # 0.16 rows, but one is left
    ],
)
def test_letterbox(
    frame_size: tuple[int, int],
    pixels: int,
    scaled: tuple[int, int],
    top: int,
    left: int,
    padded: tuple[int, int],
) -> None:
    frame = frames(1, *frame_size)[0]
    height, width = scaled
    expected = np.full((*padded, 3), 114, np.uint8)
    expected[top : top + height, left : left + width] = cv2.resize(frame, (width, height))
    np.testing.assert_array_equal(letterbox(frame, pixels), expected)


def chosen(boxes: Any, scores: Any, limit: int = 300) -> list[list[float]]:
    """Corners, score and class of what is left; scores are of two classes."""
    found = best_detections(
        torch.tensor([boxes]), torch.tensor([scores]), NmsSettings(0.25, 0.45, 7680, limit)
    )[0]
    return [[round(number, 3) for number in row] for row in found.tolist()]


def test_boxes_of_one_class_suppress_each_other() -> None:
    # 10 by 10 around (10, 10), then 2 to the right: overlap 80 of 120, more than 0.45
    two = [[10.0, 10, 10, 10], [12, 10, 10, 10]]
    first, second = [5, 5, 15, 15], [7, 5, 17, 15]
    assert chosen(two, [[0.5, 0], [0.9, 0]]) == [[*second, 0.9, 0]]
    assert chosen(two, [[0.5, 0], [0.3, 0.9]]) == [[*second, 0.9, 1], [*first, 0.5, 0]], (
        "another class stays"
    )
    # 4 to the right: overlap 60 of 140, less
    apart = [[10.0, 10, 10, 10], [14, 10, 10, 10]]
    assert len(chosen(apart, [[0.5, 0], [0.9, 0]])) == 2
    assert chosen(apart, [[0.5, 0], [0.9, 0]], limit=1) == [[9, 5, 19, 15, 0.9, 0]]
    assert chosen(two, [[0.25, 0], [0.1, 0.2]]) == [], "0.25 is not more than 0.25"


def test_boxes_come_back_to_the_frame() -> None:
    found = torch.tensor([[0.0, 8, 320, 216, 0.5, 3], [32, 16, 64, 500, 0.5, 3]])
    # v7.0 undoes the ideal scale 320 / 231 and (224 - 150 * 320 / 231) / 2 = 8.104 rows of padding
    ideal, gain = to_frame(found, (224, 320), (150, 231)), 320 / 231
    np.testing.assert_allclose(ideal[:, 1], [0, (16 - (224 - 150 * gain) / 2) / gain], rtol=1e-5)
    np.testing.assert_allclose(ideal[0, 2:], [231, 150, 0.5, 3], rtol=1e-6)
    assert ideal[1, 3] == 150, "cut to the frame"
    # ultralytics the 208 rows and 8 of padding that there are
    whole = to_frame_by_rounded_size(found, (224, 320), (150, 231))
    np.testing.assert_allclose(whole[:, 1], [0, 8 * 150 / 208], rtol=1e-6)
    np.testing.assert_allclose(whole[0], [0, 0, 231, 150, 0.5, 3], rtol=1e-6)


def small(**settings: Any) -> YOLOv5Extractor:
    chosen: dict[str, Any] = {
        "arrays": ("p3", "p4", "p5", "detections"),
        "size": "n",
        "input_pixels": 160,
    } | settings
    return build_extractor(YOLOv5Settings(**chosen), "random:0", "cpu")


def test_rows_have_the_shapes_that_are_promised() -> None:
    one = small(grid=3)
    arrays = EXTRACTORS["yolov5"].arrays(one.settings)
    for shape in ((90, 160), (160, 90), (33, 50)):
        row = one.extract([[one.prepare(frames(1, *shape)[0])]])
        assert {name: rows[0].shape for name, rows in row.items() if name in MAPS} == {
            name: arrays[name].item_shape for name in MAPS
        }
        assert row["detections"][0].shape[1:] == arrays["detections"].item_shape
    assert arrays["p4"].item_shape == (128, 3, 3)


def test_a_cell_is_the_mean_of_its_part_of_the_map() -> None:
    one, frame = small(grid=2), frames(1, 128, 160)[0]
    whole = looked_at(one.detector, frame, 160)["p3"]  # 16 rows, 20 columns
    expected = whole.reshape(64, 2, 8, 2, 10).mean(axis=(2, 4))
    np.testing.assert_allclose(
        one.extract([[one.prepare(frame)]])["p3"][0], expected, rtol=1e-4, atol=1e-6
    )


def test_a_frame_without_detections_is_a_row_without_items() -> None:
    one = small(score_threshold=1.0)
    assert one.extract([[one.prepare(frames(1, 90, 160)[0])]])["detections"][0].shape == (0, 6)


def test_neighbours_and_order_change_no_bit() -> None:
    one = small()
    first, second, third = (
        [one.prepare(frame)] for frame in (*frames(2, 90, 160), frames(1, 120, 160)[0])
    )
    alone, beside, after = (
        one.extract([second]),
        one.extract([first, second]),
        one.extract([third, second, first]),
    )
    for name in alone:
        np.testing.assert_array_equal(alone[name][0], beside[name][1])
        np.testing.assert_array_equal(alone[name][0], after[name][1])


@pytest.mark.parametrize(
    ("release", "size"), [("v7.0", "n"), ("v7.0", "m"), ("v5.0", "s"), ("u", "n")]
)
def test_random_weights_keep_the_scale_and_detect_something(release: str, size: str) -> None:
    one = small(release=release, size=size, input_pixels=320)
    found = [looked_at(one.detector, frame, 320) for frame in frames(2, 180, 320)]
    for name in MAPS:
        assert 0.5 < found[0][name].std() < 5
        assert np.abs(found[0][name] - found[1][name]).max() > 1e-2, "two frames look alike"
    assert any(0 < len(one["detections"]) < 300 for one in found)


def test_a_seed_is_a_network() -> None:
    networks = [YOLOv5(SIZES["n"], "v7.0") for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, seed)
    first, again, other = (network.state_dict()["model.13.cv3.conv.weight"] for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A state dict file of each release, in half precision as published; v5.0's has the anchors
    twice.
    """
    folder, paths = tmp_path_factory.mktemp("weights"), {}
    for release, size in maker.NETWORKS:
        tensors = maker.tensors(release, size)
        if release == "v5.0":
            pixels = tensors["model.24.anchors"] * torch.tensor(STRIDES).view(3, 1, 1)
            tensors[ANCHOR_GRID] = pixels.view(ANCHOR_GRID_SHAPE)
        paths[release] = folder / f"{release}.pt"
        torch.save(
            {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()},
            paths[release],
        )
    return paths


@pytest.mark.parametrize(("release", "size"), maker.NETWORKS)
def test_files_are_loaded_by_the_published_names(
    release: str, size: str, files: dict[str, Path]
) -> None:
    loaded = load_tensors(files[release], YOLOv5Settings(release=release, size=size))
    expected = maker.tensors(release, size)
    assert loaded.keys() == expected.keys() == expected_tensors(size, release).keys()
    assert all(torch.equal(loaded[name].float(), expected[name].float()) for name in expected)


def test_a_file_of_another_release_or_size_is_told(files: dict[str, Path]) -> None:
    with pytest.raises(
        ValueError,
        match=r"size n and release u, but the settings name YOLOv5 of size n and release v7\.0, with 80 cla",
    ):
        load_tensors(files["u"], YOLOv5Settings(size="n"))
    with pytest.raises(
        ValueError,
        match=r"size s and release v5\.0, but the settings name YOLOv5 of size m and release v5\.0",
    ):
        load_tensors(files["v5.0"], YOLOv5Settings(size="m", release="v5.0"))


def test_a_file_of_no_release_is_refused(tmp_path: Path) -> None:
    tensors = maker.tensors("v7.0", "n")
    torch.save(
        {name: tensor for name, tensor in tensors.items() if name != "model.24.anchors"},
        tmp_path / "t.pt",
    )
    with pytest.raises(
        ValueError, match=r"does not fit this network:\n  model\.24\.anchors \(3, 3, 2\) is missing"
    ):
        load_tensors(tmp_path / "t.pt", YOLOv5Settings(size="n"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"arrays": ("p6",)}, r"p3, p4, p5, detections, each once; got \('p6',\)"),
        ({"arrays": ()}, r"each once; got \(\)"),
        ({"release": "v4.0"}, "release must be one of v5.0, v7.0, u; got 'v4.0'"),
        (
            {"release": "v5.0", "size": "n"},
            "size must be one of s, m, l, x in the release v5.0; got 'n'",
        ),
        ({"size": ""}, "size must be one of n, s, m, l, x in the release v7.0; got ''"),
        ({"frames_per_second": -1}, "at least 0; got -1"),
        ({"input_pixels": 600}, "a multiple of 32; got 600"),
        ({"grid": 0}, "grid must be 1 to 32; got 0"),
        ({"nms_threshold": 1.5}, "nms_threshold must be 0 to 1; got 1.5"),
        ({"max_detections": 0}, "max_detections must be 1 to 30000; got 0"),
        ({"backend": "onnx"}, "backend must be one of torch, ultralytics; got 'onnx'"),
        ({"backend": "ultralytics"}, "ultralytics supports only release = u; got 'v7.0'"),
    ],
)
def test_settings_say_what_is_wrong(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        YOLOv5Settings(**settings)


def test_the_row_of_the_table() -> None:
    spec = EXTRACTORS["yolov5"]
    assert spec.sampling(YOLOv5Settings(frames_per_second=4)) == FramesAtRate(4)
    assert spec.sampling(YOLOv5Settings(frames_per_second=0)) == EveryFrame()
    arrays = spec.arrays(YOLOv5Settings())
    assert {name: (one.dtype, one.item_shape, one.ragged) for name, one in arrays.items()} == {
        "p5": ("float16", (512, 4, 4), False),
        "detections": ("float32", (6,), True),
    }
    widths = [
        spec.arrays(YOLOv5Settings(size=size))["p5"].item_shape[0] for size in RELEASES["v7.0"]
    ]
    assert widths == [256, 512, 768, 1024, 1280]


def test_a_missing_ultralytics_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.extractors.yolov5.settings.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install '\.\[ultralytics\]'"):
        YOLOv5Settings(release="u", backend="ultralytics")
