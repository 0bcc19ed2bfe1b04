"""The known numbers are there for every extractor, and see what must not pass: channels, scale,
crop, one weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from models.extractors.base.contract import Extractor, ExtractorSpec, Frame
from models.extractors.golden import golden_outputs
from models.extractors.registry import EXTRACTORS
from tests.support.injected_noise import in_every_layer

FAULTS: dict[str, Callable[[Frame], Frame]] = {
    "blue for red": lambda frame: np.ascontiguousarray(frame[..., ::-1]),
    "a missing division": lambda frame: (frame // 255).astype(np.uint8),
    "a crop four pixels off": lambda frame: np.roll(frame, 4, axis=1),
    "upside down": lambda frame: np.ascontiguousarray(frame[::-1]),
}


def _in_each(fault: Callable[[Frame], Frame], clip: list[Frame]) -> list[Frame]:
    return [fault(frame) for frame in clip]


CLIP_FAULTS: dict[str, Callable[[list[Frame]], list[Frame]]] = {
    **{name: partial(_in_each, fault) for name, fault in FAULTS.items()},
    "a mean four of 255 off": lambda clip: [
        np.clip(frame.astype(int) + 4, 0, 255).astype(np.uint8) for frame in clip
    ],
    "two frames in the wrong order": lambda clip: [*clip[:15], clip[16], clip[15], *clip[17:]],
    "one frame late": lambda clip: [*clip[1:], clip[-1]],
}


@pytest.mark.parametrize("name", sorted(EXTRACTORS))
def test_every_extractor_has_known_numbers_of_its_present_numerics(name: str) -> None:
    known = golden_outputs.known_outputs(EXTRACTORS[name])
    assert (
        known.keys()
        == EXTRACTORS[name].arrays(golden_outputs.golden_settings(EXTRACTORS[name])).keys()
    )
    assert all(signature.norm > 0 for signature in known.values())


def test_without_numbers_or_with_other_numerics_there_is_no_proof() -> None:
    frames = EXTRACTORS["frames"]
    with pytest.raises(
        golden_outputs.GoldenMissing,
        match=r"other has no golden file /.*/jpeg_frames/other.golden.json",
    ):
        golden_outputs.known_outputs(dataclasses.replace(frames, name="other"))
    with pytest.raises(golden_outputs.GoldenMissing, match="numerics_version 1, the code has 2"):
        golden_outputs.known_outputs(dataclasses.replace(frames, numerics_version=2))


class Wrong:
    """An extractor that is shown other pictures than it is given."""

    def __init__(self, extractor: Extractor, fault: Callable[[Frame], Frame]) -> None:
        self.extractor, self.fault = extractor, fault

    def prepare(self, frame: Frame) -> Any:
        return self.extractor.prepare(self.fault(frame))

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        return self.extractor.extract(windows)


def with_fault(spec: ExtractorSpec, fault: Callable[[Frame], Frame]) -> ExtractorSpec:
    return dataclasses.replace(spec, build=lambda *given: Wrong(spec.build(*given), fault))


@pytest.mark.parametrize("fault", FAULTS)
def test_frames_shown_wrongly_are_seen(fault: str) -> None:
    spec = with_fault(EXTRACTORS["frames"], FAULTS[fault])
    assert any(
        "is off by" in line or "has the shape" in line
        for line in golden_outputs.golden_differences(
            spec, golden_outputs.compute_golden_outputs(spec, "cpu")
        )
    )


def test_frames_shown_rightly_pass() -> None:
    spec = with_fault(EXTRACTORS["frames"], lambda frame: frame)
    assert (
        list(
            golden_outputs.golden_differences(
                spec, golden_outputs.compute_golden_outputs(spec, "cpu")
            )
        )
        == []
    )


def test_a_network_gives_its_known_numbers_and_a_swap_a_scale_a_crop_or_one_weight_is_seen() -> (
    None
):
    spec = EXTRACTORS["yolov5"]  # its smallest size is the cheapest network there is
    built: Any = spec.build(golden_outputs.golden_settings(spec), golden_outputs.WEIGHTS, "cpu")

    def again(fault: Callable[[Frame], Frame]) -> list[str]:
        one = dataclasses.replace(spec, build=lambda *_: Wrong(built, fault))
        return list(
            golden_outputs.golden_differences(
                one, golden_outputs.compute_golden_outputs(one, "cpu")
            )
        )

    assert again(lambda frame: frame) == []
    for fault in FAULTS.values():
        assert any(line.startswith("yolov5.p5 is off by") for line in again(fault))
    weight = next(
        tensor for tensor in built.detector.network.parameters() if tensor.ndim == 4
    ).detach()
    place = torch.unravel_index(weight.abs().argmax(), weight.shape)
    weight[place] *= -1
    assert any(line.startswith("yolov5.p5 is off by") for line in again(lambda frame: frame))


@pytest.fixture(scope="module")
def tased() -> Any:
    spec = EXTRACTORS["tased"]
    return spec.build(golden_outputs.golden_settings(spec), golden_outputs.WEIGHTS, "cpu")


@pytest.mark.parametrize(
    "corner", [(64, 96), pytest.param((224, 384), marks=pytest.mark.slow)], ids=["", "whole"]
)
def test_wrong_pictures_move_a_saliency_map_far_beyond_what_the_proof_allows_and_rounding_does_not(
    tased: Any, corner: tuple[int, int]
) -> None:
    height, width = corner
    right = golden_outputs.synthetic_clip(32)
    allowed = EXTRACTORS["tased"].golden.tolerances["saliency"]

    def signature(clip: list[Frame]) -> golden_outputs.GoldenOutput:
        prepared = [tased.prepare(frame)[-height:, :width] for frame in clip]
        return golden_outputs.summarize_row(tased.extract([prepared])["saliency"][0])

    expected = signature(right)
    for name, fault in CLIP_FAULTS.items():
        assert golden_outputs.golden_error(expected, signature(fault(right))) >= 5 * allowed, name
    with in_every_layer(tased.network, seed=1):
        assert golden_outputs.golden_error(expected, signature(right)) <= allowed / 2


@pytest.mark.parametrize("found", [float("nan"), 0.0, 2.0])
def test_no_number_passes_for_another(found: float) -> None:
    spec = EXTRACTORS["frames"]
    known = golden_outputs.known_outputs(spec)["jpeg"]
    wrong = golden_outputs.GoldenOutput(known.shape, known.norm * found, known.projections)
    assert list(golden_outputs.golden_differences(spec, {"jpeg": wrong}))
    assert list(golden_outputs.golden_differences(spec, {}))
    assert list(golden_outputs.golden_differences(spec, {"jpeg": known})) == []
