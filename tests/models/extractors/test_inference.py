"""Every extractor gives the same bits beside any neighbours, in any order and with any number of
threads; torch resizes like OpenCV and PIL; and on real frames no choice drifts further than it
says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from models.extractors.base import inference
from models.extractors.base.contract import Extractor, Frame
from models.extractors.base.precision import Numerics, allowed_error
from models.extractors.golden import golden_outputs
from models.extractors.golden.output_error import output_errors
from models.extractors.keypoint_rcnn import boxes
from models.extractors.registry import EXTRACTORS
from models.extractors.yolov5.boxes import letterbox, letterbox_on_device
from pipeline.decoding.video_reader import VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def windows_of(name: str, whole: bool) -> tuple[Any, Any, Any]:
    """An extractor and two windows that look alike; of a clip for TASED-Net a corner, unless the
    whole is asked for.
    """
    spec = EXTRACTORS[name]
    settings = golden_outputs.golden_settings(spec)
    extractor = spec.build(settings, golden_outputs.WEIGHTS if spec.needs_weights else "", "cpu")
    length = golden_outputs.window_frames(spec.sampling(settings))
    prepared = [extractor.prepare(frame) for frame in golden_outputs.synthetic_clip(length + 1)]
    if name == "tased" and not whole:
        prepared = [picture[:96, :128] for picture in prepared]
    return extractor, prepared[:length], prepared[1:]


def assert_equal_bits(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, row in one.items():
        np.testing.assert_array_equal(row, other[name], err_msg=name, strict=True)


@pytest.mark.parametrize(
    "whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "whole"]
)
@pytest.mark.parametrize("name", sorted(EXTRACTORS))
def test_neighbours_order_and_threads_change_no_bit(
    name: str, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr(boxes, "PROPOSALS", 100)
    extractor, first, second = windows_of(name, whole)

    def row(windows: list[Any], at: int, threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        found = extractor.extract(windows)
        assert torch.get_num_threads() == threads
        return {array: rows[at] for array, rows in found.items()}

    alone = row([first], 0, threads=1)
    assert_equal_bits(alone, row([first, second], 0, threads=2))
    assert_equal_bits(alone, row([second, first], 1, threads=3))


def test_without_care_the_number_of_threads_does_change_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, oneDNN has become independent of threads, and rows need not be computed by one
    thread each.
    """
    monkeypatch.setattr(inference, "one_thread", nullcontext)
    spec = EXTRACTORS["yolov5"]
    extractor = spec.build(spec.settings_type(arrays=("p3",)), golden_outputs.WEIGHTS, "cpu")
    prepared, found = (
        extractor.prepare(np.tile(golden_outputs.synthetic_clip(1)[0], (2, 1, 1))[:240]),
        [],
    )
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(extractor.extract([[prepared]])["p3"][0])
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize(("height", "width"), [(128, 171), (224, 384), (400, 700)])
def test_torch_resizes_like_opencv_and_pil_up_to_one_step(height: int, width: int) -> None:
    frame = golden_outputs.synthetic_clip(1)[0]
    picture = inference.stack_frames([frame, frame[::-1]], "cpu")
    plain, smooth = (
        inference.resize_bilinear(picture, height, width, antialias=how) for how in (False, True)
    )
    opencv = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    pil = np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    for made, expected in ((plain, opencv), (smooth, pil)):
        assert made.dtype == torch.uint8
        error = np.abs(made[0].permute(1, 2, 0).numpy().astype(int) - expected)
        assert error.max() <= 1
        assert (error > 0).mean() < 0.3


@pytest.mark.parametrize(
    ("shape", "pixels"), [((150, 231), 320), ((211, 120), 320), ((320, 320), 320), ((90, 7), 64)]
)
def test_a_letterbox_on_the_device_is_the_same_letterbox(
    shape: tuple[int, int], pixels: int
) -> None:
    frame = np.resize(golden_outputs.synthetic_clip(1)[0], (*shape, 3))
    expected = letterbox(frame, pixels).astype(int)
    made = (
        letterbox_on_device(inference.stack_frames([frame], "cpu"), pixels)[0]
        .permute(1, 2, 0)
        .numpy()
    )
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() <= 1


def test_a_frame_that_waits_for_the_fast_resize_is_a_copy() -> None:
    spec, frame = EXTRACTORS["yolov5"], golden_outputs.synthetic_clip(1)[0].copy()
    prepared = spec.build(
        spec.settings_type(size="n", resize="fast"), golden_outputs.WEIGHTS, "cpu"
    ).prepare(frame)
    frame[:] = 0  # the decoder uses its memory again
    assert prepared.picture.any()


def test_bf16_is_channels_last_and_leaves_what_decides_in_float32() -> None:
    spec = EXTRACTORS["yolov5"]
    network: Any = spec.build(
        spec.settings_type(size="n", precision="bf16"), golden_outputs.WEIGHTS, "cpu"
    )
    layers = dict(network.detector.network.named_parameters())
    heads = {name for name in layers if name.startswith("model.24.")}
    assert {layers[name].dtype for name in heads} == {torch.float32}
    assert {layers[name].dtype for name in layers.keys() - heads} == {torch.bfloat16}
    assert layers["model.1.conv.weight"].is_contiguous(memory_format=torch.channels_last)


class Swapped:
    """An extractor that takes red for blue."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.extract = extractor.extract

    def prepare(self, frame: Frame) -> Any:
        return self.extractor.prepare(np.ascontiguousarray(frame[..., ::-1]))


CHOICES = (
    Numerics(resize="fast"),
    Numerics(precision="bf16"),
    Numerics(precision="bf16", resize="fast"),
)


@pytest.mark.parametrize("numerics", CHOICES, ids=lambda one: "-".join(one.lossy_choices))
def test_the_start_up_proof_passes_and_sees_a_fault_under_each_choice(numerics: Numerics) -> None:
    spec = EXTRACTORS["yolov5"]
    assert list(golden_outputs.precision_violations(spec, "cpu", numerics)) == []

    def swapped(settings: Any, weights: str, device: str) -> Any:
        extractor = spec.build(settings, weights, device)
        return Swapped(extractor) if settings.lossy_choices else extractor

    faults = list(
        golden_outputs.precision_violations(
            dataclasses.replace(spec, build=swapped), "cpu", numerics
        )
    )
    assert any(fault.startswith("yolov5.p5 has an error of") for fault in faults)


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["v_GGSY1Qvo990.mp4", "flipping_a_pancake.mkv"])
@pytest.mark.parametrize(("name", "settings"), [
    ("c3d", {"arrays": ("pool5", "fc6", "fc7", "fc6_linear", "fc7_linear")}),
    ("tased", {}),
    ("yolov5", {"arrays": ("p3", "p4", "p5", "detections")}),
])  # fmt: skip
def test_real_frames_drift_no_further_than_stated(
    shared_data: Path, name: str, settings: dict[str, Any], clip: str
) -> None:
    spec = EXTRACTORS[name]
    length = golden_outputs.window_frames(spec.sampling(spec.settings_type(**settings)))
    decoding = VideoReader(
        "v",
        shared_data / "videos" / clip,
        backend="pyav",
        limits=DEFAULT_LIMITS,
        heartbeat=lambda: None,
    )
    frames = [frame.to_rgb() for frame in decoding][:120]
    windows = [
        frames[start : start + length] for start in ((10, 70) if length > 1 else range(0, 120, 20))
    ]

    def rows(**choice: str) -> Any:
        extractor = spec.build(spec.settings_type(**settings, **choice), "random:9", "cpu")
        return extractor.extract(
            [[extractor.prepare(frame) for frame in window] for window in windows]
        )

    reference = rows()
    for numerics in CHOICES:
        for array, drift in output_errors(
            reference, rows(precision=numerics.precision, resize=numerics.resize)
        ).items():
            limit = allowed_error(name, array, numerics)
            assert limit is None or not drift.exceeds(limit), f"{array} {numerics}: {drift}"
