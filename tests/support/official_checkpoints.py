"""Small twins of the published weights files: the same kinds of objects, written by the same
writers.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Detect(nn.Module):
    """YOLOv5's head, as far as a file shows it."""

    anchors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.nc = 80
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.names = ["person", "bicycle"]
        self.register_buffer("anchors", torch.arange(6.0).view(1, 3, 2))
        self.register_buffer("grid", torch.zeros(1), persistent=False)
        self.m = nn.ModuleList([nn.Conv2d(4, 6, 1)])


class DetectionModel(nn.Module):
    """YOLOv5's network, as far as a file shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3, momentum=0.03), Detect()
        )
        self.yaml = {"depth_multiple": 0.33, "anchors": [[10, 13], [30, 61]]}


@contextmanager
def as_written_by_yolov5() -> Iterator[None]:
    """Inside, the classes above live in `models.yolo`, as pickles of the original repository
    say.
    """
    module = types.ModuleType("models.yolo")
    for kind in (Detect, DetectionModel):
        kind.__module__ = "models.yolo"
        setattr(module, kind.__name__, kind)
    sys.modules["models.yolo"] = module
    try:
        yield
    finally:
        del sys.modules["models.yolo"]


def yolov5(*, zipped: bool) -> tuple[bytes, dict[str, Tensor]]:
    """A stripped checkpoint in half precision, and the state dict in it."""
    torch.manual_seed(0)
    network = DetectionModel().half()
    for parameter in network.parameters():
        parameter.requires_grad = False
    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": network,
        "ema": None,
        "date": "2022-11-22",
    }
    with as_written_by_yolov5(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # the older form wants to keep the source code of such classes
        return saved(checkpoint, zipped=zipped), dict(network.state_dict())


def saved(thing: Any, *, zipped: bool = True, protocol: int = 2) -> bytes:
    """As `torch.save` writes it."""
    out = io.BytesIO()
    torch.save(thing, out, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return out.getvalue()


def state_dict() -> dict[str, Tensor]:
    """Every dtype, a transposed one, an empty one, a scalar, two that share their numbers."""
    torch.manual_seed(1)
    shared = torch.randn(12)
    return {
        "transposed": torch.randn(3, 4).t(),
        "half": torch.randn(2, 2).half(),
        "bfloat": torch.randn(3).bfloat16(),
        "double": torch.randn(2).double(),
        "whole": torch.arange(5),
        "small": torch.arange(3, dtype=torch.int8),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "first": shared[:6].view(2, 3),
        "second": shared[6:],
        "parameter": nn.Parameter(torch.ones(2)),
    }


def detectron2(protocol: int) -> tuple[bytes, dict[str, np.ndarray[Any, Any]]]:
    """A model of the zoo, and the arrays in it."""
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "backbone.bottom_up.stem.conv1.weight": generator.normal(size=(4, 3, 2, 2)).astype(
            np.float32
        ),
        "roi_heads.box_predictor.cls_score.bias": np.asfortranarray(generator.normal(size=(3, 2))),
        "steps": np.array(7),
    }
    return pickle.dumps({"model": arrays, "__author__": "The Detectron2 team"}, protocol), arrays
