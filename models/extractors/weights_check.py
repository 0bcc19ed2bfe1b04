"""Checks that a weights file holds what its registered name promises.

Each file is read as its network would read it, so that a file that passes here loads later.
"""

from __future__ import annotations

from pathlib import Path

from models.extractors.c3d.mean_volume import load_mean
from models.weights.published import PublishedWeights


def is_mean_volume(row: PublishedWeights) -> bool:
    """Whether the file is C3D's mean volume, and not a network's tensors."""
    return row.name.endswith(".binaryproto")


def check_weights_file(row: PublishedWeights, path: Path) -> None:
    """Read `path`, a published or a converted file, as the network of `row` would.

    ValueError with the differences if it belongs to another network, or to another size, release or
    count of classes.
    """
    if is_mean_volume(row):
        load_mean(path)
    elif row.extractor == "c3d":
        _check_c3d(row, path)
    elif row.extractor == "tased":
        _check_tased(row, path)
    elif row.extractor == "keypoint_rcnn":
        _check_keypoint_rcnn(path)
    elif row.extractor == "yolov5":
        _check_yolov5(row, path)
    else:
        raise ValueError(f"{row.name}: no check reads weights of the extractor {row.extractor}")


# The functions below import their network: imports take seconds, and most commands need none.


def _check_c3d(row: PublishedWeights, path: Path) -> None:
    from models.extractors.c3d.network import LAYOUTS
    from models.weights.key_mapping import load_best_layout

    layouts = tuple(layout for layout in LAYOUTS if layout.name == row.name)
    load_best_layout(path, layouts)


def _check_tased(row: PublishedWeights, path: Path) -> None:
    from models.extractors.tased.weights import load_s3d, load_weights

    if row.name == "S3D_kinetics400.pt":
        load_s3d(path)
    else:
        load_weights(path)


def _check_keypoint_rcnn(path: Path) -> None:
    import torch

    from models.extractors.keypoint_rcnn.network import KeypointRCNN
    from models.extractors.keypoint_rcnn.weights import expected_shapes, name_in_network
    from models.weights.loading import load_matching_tensors

    with torch.device("meta"):
        expected = expected_shapes(KeypointRCNN())
    load_matching_tensors(path, expected, name_in_network)


def _check_yolov5(row: PublishedWeights, path: Path) -> None:
    from models.extractors.yolov5.settings import YOLOv5Settings
    from models.extractors.yolov5.weights import load_tensors

    load_tensors(path, YOLOv5Settings(size=row.settings["size"], release=row.settings["release"]))
