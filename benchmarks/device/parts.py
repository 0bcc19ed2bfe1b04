"""Shared by all sections: seeded extractors, windows of a real video, and the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from models.extractors.base.contract import Extractor, ExtractorSpec, Frame
from models.extractors.base.precision import is_gpu
from models.extractors.golden.golden_outputs import window_frames
from models.extractors.registry import EXTRACTORS
from pipeline.decoding.video_reader import VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS

NETWORKS = ("c3d", "yolov5", "tased", "keypoint_rcnn")
ARRAYS: dict[str, dict[str, Any]] = {
    "c3d": {"arrays": ("pool5", "fc6", "fc7", "fc6_linear", "fc7_linear")},
    "yolov5": {"arrays": ("p3", "p4", "p5", "detections")},
}
"""Settings of the parity table that keep more than the defaults do."""
CHOICES: dict[str, dict[str, str]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fast": {"resize": "fast"},
    "bf16, fast": {"precision": "bf16", "resize": "fast"},
}
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def settings_of(spec: ExtractorSpec, choice: str, **others: Any) -> Any:
    """The defaults in a precision and a resize; the pipeline's own refusals do not hold here."""
    return spec.settings_type(**{**others, **CHOICES[choice]})


def build(name: str, choice: str, device: str, **others: Any) -> Extractor:
    """An extractor with seeded random weights."""
    spec = EXTRACTORS[name]
    return spec.build(settings_of(spec, choice, **others), "random:0", device)


def frames_of(video: Path) -> list[Frame]:
    """All of them."""
    decoding = VideoReader(
        "v", video, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None
    )
    return [frame.to_rgb() for frame in decoding]


def windows_of(name: str, frames: Sequence[Frame], count: int) -> list[list[Frame]]:
    """Windows of consecutive frames from all over the video."""
    spec = EXTRACTORS[name]
    length = window_frames(spec.sampling(spec.settings_type()))
    starts = [(len(frames) - length) * number // max(count - 1, 1) for number in range(count)]
    return [list(frames[start : start + length]) for start in starts]


def prepared(extractor: Extractor, windows: Sequence[Sequence[Frame]]) -> list[list[Any]]:
    """The windows as the extractor wants them."""
    return [[extractor.prepare(frame) for frame in window] for window in windows]


def synchronize(device: str) -> None:
    """Wait until a GPU has done all it was given."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


def median_seconds(work: Callable[[], Any], device: str, budget_seconds: float) -> float:
    """Of one call, after one to warm up: as many as the budget allows, three at least."""
    work()
    synchronize(device)
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < budget_seconds and len(taken) < 50):
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
