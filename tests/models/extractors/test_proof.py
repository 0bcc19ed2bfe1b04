"""Outputs that prove nothing get no golden file, and the reason is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from models.extractors.base.contract import ArraySpec, ExtractorSpec
from models.extractors.base.failures import ExtractorError
from models.extractors.base.sampling import ConsecutiveFrames
from models.extractors.golden.golden_outputs import compute_golden_outputs, self_test_differences
from models.extractors.golden.proof import proof_faults
from models.extractors.registry import EXTRACTORS

Prepare = Callable[[Any], Any]
Extract = Callable[[Sequence[Sequence[Any]]], Mapping[str, Sequence[Any]]]


@dataclass(frozen=True)
class NoSettings:
    """None."""


@dataclass
class Parts:
    """An extractor made of two functions."""

    prepare: Prepare
    extract: Extract


def mean_colour(frame: Any) -> Any:
    return frame.mean(axis=(0, 1)).astype(np.float32)


def rows(windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    return {"mean": [np.stack(window) for window in windows]}


def spec_of(
    extract: Extract = rows, prepare: Prepare = mean_colour, array: ArraySpec | None = None
) -> ExtractorSpec:
    return ExtractorSpec(
        name="parts",
        numerics_version=1,
        settings_type=NoSettings,
        arrays=lambda _: {"mean": array or ArraySpec("float32", (2, 3))},
        sampling=lambda _: ConsecutiveFrames(2, 2),
        build=lambda *_: Parts(prepare, extract),
        needs_weights=False,
    )


def changed(change: Callable[[Any], Any]) -> Extract:
    """`rows`, each changed."""
    return lambda windows: {"mean": [change(row) for row in rows(windows)["mean"]]}


def test_rows_as_the_spec_says_are_taken() -> None:
    assert proof_faults(spec_of()) == []
    half = ArraySpec("float16", (2, 3))
    assert proof_faults(spec_of(changed(lambda row: row.astype(np.float64)), array=half)) == []
    items = ArraySpec("float32", (3,), ragged=True)
    assert proof_faults(spec_of(array=items)) == []


def test_our_own_are_taken() -> None:
    assert proof_faults(EXTRACTORS["frames"]) == []


class Counter:
    """Gives another row at each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        self.calls += 1
        return {"mean": [row + self.calls for row in rows(windows)["mean"]]}


def without_the_mean_of_all(windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    found = np.stack(rows(windows)["mean"])
    return {"mean": list(found - 0.5 * found.mean(axis=0))}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (spec_of(lambda _: {}), "extract gives the arrays none, its spec says mean"),
        (spec_of(lambda windows: {"mean": rows(windows)["mean"][:1]}),
         "mean: 2 rows expected, one for each window; got 1"),
        (spec_of(lambda _: {"mean": []}), "mean: 1 row expected, one for each window; got 0"),
        (spec_of(changed(lambda row: row[:1])),
         "mean: a row has the shape (1, 3), its ArraySpec says (2, 3)"),
        (spec_of(changed(torch.from_numpy)),
         "mean: a row is a torch.Tensor; give a numpy array, of a tensor `tensor.cpu().numpy()`"),
        (spec_of(changed(lambda row: row.astype(np.uint8))),
         "mean: a row has the dtype uint8, its ArraySpec says float32"),
        (spec_of(array=ArraySpec("uint8", (2, 3))),
         "mean: a row has the dtype float32, its ArraySpec says uint8"),
        (spec_of(changed(lambda row: row * np.float32("nan"))),
         "mean: 6 of 6 values are NaN or infinite with seeded weights"),
        (spec_of(changed(lambda row: row * 1000), array=ArraySpec("float16", (2, 3))),
         "values do not fit into float16: the largest is "),
        (spec_of(changed(lambda row: row * 0)), "mean: the row is all zeros"),
        (spec_of(changed(lambda row: row[:0]), array=ArraySpec("float32", (3,), ragged=True)),
         "mean: the row has no item"),
        (spec_of(Counter()), "mean: two calls with the same frames give different rows"),
        (spec_of(without_the_mean_of_all), "mean: a row depends on the other rows of its call"),
        (spec_of(changed(lambda row: row.reshape(2, -1)[:, :3] / 255), lambda frame: frame[:1, :1]),
         "mean: rows change when the memory of a frame is used again; `prepare` must copy"),
    ],
)  # fmt: skip
def test_what_proves_nothing_is_refused(spec: ExtractorSpec, told: str) -> None:
    faults = proof_faults(spec)
    assert any(told in fault for fault in faults), faults


def cropped(frame: Any) -> Any:
    return frame[:: len(frame) // 112].mean(axis=(0, 1)).astype(np.float32)


def test_an_error_is_named_with_its_line() -> None:
    with pytest.raises(
        ExtractorError,
        match=r"parts failed in a clip of 48×64 pixels: ValueError: slice step cannot be zero, in "
        r".*test_proof.py:\d+$",
    ):
        proof_faults(spec_of(prepare=cropped))


def test_the_self_test_names_a_broken_contract_first(tmp_path: Any) -> None:
    frames = EXTRACTORS["frames"]

    class Other:
        def prepare(self, frame: Any) -> Any:
            return frame

        def extract(self, windows: Any) -> Any:
            return {"jpeg": [np.zeros((2, 2), np.uint8)]}

    broken = dataclasses.replace(frames, build=lambda *_: Other())
    assert self_test_differences(frames, "cpu") == []
    assert self_test_differences(broken, "cpu") == [
        "frames: jpeg: a row has the shape (2, 2), its ArraySpec says () "
        "for each item of (items, ...)"
    ]
    assert compute_golden_outputs(frames, "cpu").keys() == {"jpeg"}
