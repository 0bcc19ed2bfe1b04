"""Files that YOLOv5 networks are kept in: what wraps them, what is in them twice, and what is
another network's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.extractors.yolov5.boxes import NmsSettings, best_detections
from models.extractors.yolov5.network import STRIDES, YOLOv5
from models.extractors.yolov5.settings import SIZES, YOLOv5Settings
from models.extractors.yolov5.weights import (
    ANCHOR_GRID,
    ANCHOR_GRID_SHAPE,
    ANCHORS,
    initialise,
    load_tensors,
)

Tensors = dict[str, Tensor]
SETTINGS = YOLOv5Settings(size="n")


def network(seed: int = 1, release: str = "v7.0", size: str = "n") -> YOLOv5:
    """In half precision, as published. Pickled whole it is a class under `models.`, as in the
    original repository.
    """
    made = YOLOv5(SIZES[size], release)
    initialise(made, seed)
    return made.half()


def with_grid(made: YOLOv5) -> YOLOv5:
    """The buffer that files of v5.0, and some of v6.0, have besides."""
    head = made.model["24"]
    pixels = head.get_buffer("anchors").float() * torch.tensor(STRIDES).view(3, 1, 1)
    head.register_buffer("anchor_grid", pixels.view(ANCHOR_GRID_SHAPE).half())
    return made


def with_list(made: YOLOv5) -> YOLOv5:
    """v6.0 and later keep a list of pictures' grids, which is no tensor of the network."""
    head: Any = made.model["24"]
    head.anchor_grid, head.grid, head.stride = (
        [torch.zeros(1)] * 3,
        [torch.zeros(1)] * 3,
        torch.tensor([8.0, 16, 32]),
    )
    return made


def named(prefix: str, made: YOLOv5) -> Tensors:
    return {prefix + name: tensor for name, tensor in made.state_dict().items()}


FORMS: dict[str, Callable[[YOLOv5], Any]] = {
    "state dict": lambda made: made.state_dict(),
    "in single precision": lambda made: made.float().state_dict(),
    "v6.0 with a buffer of anchors": lambda made: {
        "model": with_grid(made),
        "ema": None,
        "epoch": -1,
    },
    "v6.1 with a list of anchors": lambda made: {
        "model": with_list(made),
        "ema": None,
        "optimizer": None,
    },
    "in training, averaged": lambda made: {
        "model": network(2),
        "ema": made,
        "updates": 7,
        "optimizer": {"state": {}},
    },
    "in training, averaged and counted": lambda made: {
        "model": network(2),
        "ema": (made, 7),
        "epoch": 3,
    },
    "names after module.": lambda made: {"model": named("module.", made)},
    "names after module. twice": lambda made: named("module.module.", made),
    "compiled": lambda made: {"state_dict": named("_orig_mod.", made)},
    "wrapped for several GPUs": lambda made: {"model": nn.DataParallel(made), "ema": None},
    "by itself": lambda made: made,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_tensors(form: str, tmp_path: Path) -> None:
    expected = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    torch.save(FORMS[form](network()), tmp_path / "file.pt")
    loaded = load_tensors(tmp_path / "file.pt", SETTINGS)
    assert loaded.keys() == expected.keys()
    for name, tensor in loaded.items():
        assert torch.equal(
            tensor, expected[name].float() if expected[name].is_floating_point() else expected[name]
        )
        assert tensor.dtype in (torch.float32, torch.int64)


@pytest.mark.parametrize(("release", "size", "counts"), [("v5.0", "s", True), ("v7.0", "n", False)])
def test_anchors_in_pixels_count_in_the_release_that_multiplies_by_them(
    release: str, size: str, counts: bool, tmp_path: Path
) -> None:
    made = with_grid(network(release=release, size=size))
    made.model["24"].get_buffer("anchor_grid").mul_(2)
    torch.save({"model": made}, tmp_path / "file.pt")
    loaded = load_tensors(tmp_path / "file.pt", YOLOv5Settings(size=size, release=release))
    assert ANCHOR_GRID not in loaded
    assert torch.equal(loaded[ANCHORS], made.state_dict()[ANCHORS].float() * (2 if counts else 1))


def segmenting(tensors: Tensors) -> Tensors:
    widths = {f"model.24.m.{i}.weight": torch.zeros(3 * 117, 64 * 2**i, 1, 1) for i in range(3)}
    biases = {f"model.24.m.{i}.bias": torch.zeros(3 * 117) for i in range(3)}
    return tensors | widths | biases | {"model.24.proto.cv1.conv.weight": torch.zeros(64, 64, 3, 3)}


def of_classes(tensors: Tensors, classes: int) -> Tensors:
    outputs = 3 * (5 + classes)
    weights = {f"model.24.m.{i}.weight": torch.zeros(outputs, 64 * 2**i, 1, 1) for i in range(3)}
    return tensors | weights | {f"model.24.m.{i}.bias": torch.zeros(outputs) for i in range(3)}


OTHERS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "segments": (segmenting, "of size n and release v7.0 that segments"),
    "1 class": (
        lambda tensors: of_classes(tensors, 1),
        "with 1 classes, but the settings name YOLOv5 of size n",
    ),
    "20 classes": (
        lambda tensors: of_classes(tensors, 20),
        "with 20 classes, but the settings name YOLOv5 of size n",
    ),
    "365 classes": (
        lambda tensors: of_classes(tensors, 365),
        "with 365 classes, but the settings name YOLOv5 of size n",
    ),
    "four maps": (
        lambda tensors: tensors | {"model.33.m.0.weight": torch.zeros(255, 64, 1, 1)},
        "1280 pixels",
    ),
    "classifies": (
        lambda _: {"model.9.linear.weight": torch.zeros(1000, 1280)},
        "that classifies whole pictures",
    ),
    "size m": (
        lambda _: network(size="m").state_dict(),
        "of size m and release v7.0, but the settings name YOLOv5 of size n",
    ),
    "anchor-free": (
        lambda _: network(release="u").state_dict(),
        "of size n and release u, but the settings name YOLOv5 of size n",
    ),
    "a grid of other anchors": (
        lambda tensors: tensors | {ANCHOR_GRID: torch.zeros(3, 1, 4, 1, 1, 2)},
        "4, 1, 1, 2",
    ),
    "no YOLOv5": (
        lambda _: {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        "none of its 1 names is among the 349",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_network_is_told(other: str, tmp_path: Path) -> None:
    change, told = OTHERS[other]
    torch.save({"model": change(dict(network().state_dict()))}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=told):
        load_tensors(tmp_path / "file.pt", SETTINGS)


def test_as_many_detections_are_kept_as_detect_keeps() -> None:
    assert YOLOv5Settings().max_detections == 1000
    places = torch.arange(1500.0) * 100
    boxes = torch.stack((places, places, torch.full((1500,), 10.0), torch.full((1500,), 10.0)), 1)
    choice = NmsSettings(0.25, 0.45, 7680, YOLOv5Settings().max_detections)
    (found,) = best_detections(boxes[None], torch.linspace(0.3, 0.9, 1500)[None, :, None], choice)
    assert len(found) == 1000
    assert found[-1, 4] > 0.3 + 0.6 * 499 / 1500, "the best of them"
