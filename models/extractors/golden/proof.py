"""Whether an extractor's outputs prove anything: run before its golden outputs are written.

A golden file made from broken outputs would let every machine pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, Frame
from models.extractors.base.precision import rounding_error
from models.extractors.base.row_contract import row_faults
from models.extractors.golden.golden_outputs import (
    build_golden_extractor,
    calling,
    golden_settings,
    synthetic_clip,
    window_frames,
)
from models.extractors.golden.output_error import Rows, output_errors

SMALL_FRAMES = ((48, 64), (61, 37))
"""Height and width in pixels of frames that `prepare` must take too."""


def proof_faults(spec: ExtractorSpec) -> list[str]:
    """A sentence for each reason why golden outputs of this extractor would prove nothing.

    It is built on a CPU with seeded weights and called several times. Raises ExtractorError if its
    code raises an error.
    """
    proof = _Proof(spec)
    # The later checks compare rows, which must be as the spec says.
    return [f"{spec.name}: {fault}" for fault in proof.contract_faults() or proof.row_faults()]


class _Proof:
    """Rows of one extractor, of calls that should agree."""

    def __init__(self, spec: ExtractorSpec) -> None:
        self.spec = spec
        self.settings = golden_settings(spec)
        self.arrays = spec.arrays(self.settings)
        self.extractor = build_golden_extractor(spec, "cpu")
        length = window_frames(spec.sampling(self.settings))
        self.clip = synthetic_clip(length + 1)
        self.prepared = [_prepare(spec, self.extractor, frame) for frame in self.clip]
        self.first, self.second = self.prepared[:-1], self.prepared[1:]
        self.alone = self._extract(self.first)

    def _extract(self, *windows: Sequence[Any]) -> Rows:
        with calling(self.spec, self.extractor, "extract"):
            return self.extractor.extract(windows)

    def contract_faults(self) -> list[str]:
        """Arrays, number, kind and shape of rows, also of small frames; values that are kept."""
        return (
            list(row_faults(self.alone, self.arrays, 1))
            or list(row_faults(self._extract(self.first, self.second), self.arrays, 2))
            or list(self._small_frame_faults())
            or list(_value_faults(self.alone, self.arrays))
        )

    def _small_frame_faults(self) -> Iterator[str]:
        for height, width in SMALL_FRAMES:
            frames = [np.ascontiguousarray(frame[:height, :width]) for frame in self.clip[:-1]]
            with calling(self.spec, self.extractor, f"a clip of {height}×{width} pixels"):
                window = [self.extractor.prepare(frame) for frame in frames]
                rows = self.extractor.extract([window])
            for fault in row_faults(rows, self.arrays, 1):
                yield f"of a clip of {height}×{width} pixels, {fault}"

    def row_faults(self) -> list[str]:
        """Rows that differ between calls that should agree."""
        return [
            *self._different(
                self._extract(self.first),
                "two calls with the same frames give different rows; seed what is random, and put "
                "the network into evaluation mode",
                is_exact=True,
            ),
            *self._different(
                self._extract(self._prepared_from_reused_memory()),
                "rows change when the memory of a frame is used again; `prepare` must copy",
                is_exact=True,
            ),
            *self._different(
                self._first_of_both(),
                "a row depends on the other rows of its call; compute each by itself, or turn off "
                "what mixes them, such as batch statistics",
                is_exact=False,
            ),
        ]

    def _prepared_from_reused_memory(self) -> list[Any]:
        buffer = np.empty_like(self.clip[0])
        prepared = []
        for frame in self.clip[:-1]:
            buffer[:] = frame
            prepared.append(_prepare(self.spec, self.extractor, buffer))
        buffer[:] = 0
        return prepared

    def _first_of_both(self) -> Rows:
        both = self._extract(self.first, self.second)
        return {name: [both[name][0]] for name in both}

    def _different(self, found: Rows, problem: str, *, is_exact: bool) -> Iterator[str]:
        differing = [name for name in self.arrays if not self._agrees(name, found, is_exact)]
        if differing:
            yield f"{', '.join(differing)}: {problem}"

    def _agrees(self, name: str, found: Rows, is_exact: bool) -> bool:
        expected, got = self.alone[name][0], found[name][0]
        if np.array_equal(expected, got):
            return True
        if is_exact or expected.shape != got.shape or expected.dtype.kind != "f":
            return False
        allowed = rounding_error(self.spec.name, name, self.settings).norm
        (error,) = output_errors({"row": [expected]}, {"row": [got]}).values()
        return error.norm <= allowed  # false for NaN


def _prepare(spec: ExtractorSpec, extractor: Extractor, frame: Frame) -> Any:
    with calling(spec, extractor, "prepare"):
        return extractor.prepare(frame)


def _value_faults(rows: Rows, arrays: Mapping[str, ArraySpec]) -> Iterator[str]:
    """Values that would be stored and say nothing: NaN, infinities, only zeros, no item."""
    for name, array_spec in arrays.items():
        row = np.asarray(rows[name][0])
        with np.errstate(over="ignore"):
            stored = row.astype(array_spec.dtype)
        fault = _infinite(row, stored) or _empty(stored)
        if fault:
            yield f"{name}: {fault}"


def _infinite(row: NDArray[Any], stored: NDArray[Any]) -> str:
    if stored.dtype.kind != "f" or np.isfinite(stored).all():
        return ""
    if not np.isfinite(row).all():
        return (
            f"{int((~np.isfinite(row)).sum())} of {row.size} values are NaN or infinite with "
            "seeded weights; look for a division by zero, or draw smaller weights"
        )
    largest, most = float(np.abs(row).max()), float(np.finfo(stored.dtype).max)
    return (
        f"{int((~np.isfinite(stored)).sum())} of {row.size} values do not fit into "
        f"{stored.dtype}: the largest is {largest:,.0f}, {stored.dtype} holds {most:,.0f}; "
        "write float32 in its ArraySpec"
    )


def _empty(stored: NDArray[Any]) -> str:
    if not stored.size:
        return (
            "the row has no item, which proves nothing; choose GoldenCase settings that give some"
        )
    return "" if stored.any() else "the row is all zeros, which proves nothing"
