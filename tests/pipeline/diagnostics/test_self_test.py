"""An environment is tested once, reports what differs, and is tested again after a change."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.extractors.base.contract import ExtractorSpec, Frame
from models.extractors.jpeg_frames import spec as frames
from models.extractors.jpeg_frames.extractor import JpegFrames
from pipeline.diagnostics import self_test
from pipeline.diagnostics.self_test import run_self_test
from storage.base.errors import SystemicFault


class Counting:
    """Builds `frames`, counts how often, and may swap its channels."""

    def __init__(self, *, swapped: bool = False) -> None:
        self.count = 0
        self.swapped = swapped

    @property
    def spec(self) -> ExtractorSpec:
        return dataclasses.replace(frames.SPEC, build=self.build)

    def build(self, settings: Any, _: str, __: str) -> JpegFrames:
        self.count += 1
        return Swapped(settings) if self.swapped else JpegFrames(settings)


class Swapped(JpegFrames):
    """Takes red for blue."""

    def prepare(self, frame: Frame) -> Any:
        return super().prepare(np.ascontiguousarray(frame[..., ::-1]))


def test_what_is_proven_is_not_proven_again(tmp_path: Path) -> None:
    counting = Counting()
    run_self_test(counting.spec, "cpu", tmp_path)
    run_self_test(counting.spec, "cpu", tmp_path)
    assert counting.count == 1
    (note,) = tmp_path.iterdir()
    assert note.name.startswith("frames-")


def test_another_environment_proves_itself_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    run_self_test(counting.spec, "cpu", tmp_path)
    monkeypatch.setattr(self_test, "library_versions", lambda: (("numpy", "0"),))
    run_self_test(counting.spec, "cpu", tmp_path)
    monkeypatch.setattr(self_test, "code_digest", lambda: "0" * 12)
    run_self_test(counting.spec, "cpu", tmp_path)
    assert counting.count == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_what_looks_right_and_is_wrong_does_not_start(tmp_path: Path) -> None:
    counting = Counting(swapped=True)
    for _ in range(2):
        with pytest.raises(
            SystemicFault,
            match=r"frames does not give its known numbers here.*\n  frames.jpeg is off by",
        ):
            run_self_test(counting.spec, "cpu", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_extractor_without_known_numbers_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(
        SystemicFault,
        match=r"no golden file /.*/jpeg_frames/other.golden.json: run `python -m pipeline golden",
    ):
        run_self_test(dataclasses.replace(frames.SPEC, name="other"), "cpu", tmp_path)
