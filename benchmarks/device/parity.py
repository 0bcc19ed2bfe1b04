"""Every kept array on the device against the CPU's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.device.parts import ARRAYS, CHOICES, build, prepared, windows_of
from benchmarks.device.report import Report
from models.extractors.base.contract import Frame
from models.extractors.base.precision import Numerics, allowed_error
from models.extractors.golden.output_error import match_items, output_errors
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import ComputeRequest, RowExecutor


def on_cpu(name: str, windows: Sequence[Sequence[Frame]], **others: Any) -> dict[str, list[Any]]:
    """Rows as a CPU gives them: alone, one thread each."""
    extractor = build(name, "fp32", "cpu", **others)
    with RowExecutor("cpu") as executor:
        futures = [
            executor.compute(ComputeRequest(extractor, [clip]))
            for clip in prepared(extractor, windows)
        ]
        rows = [future.result() for future in futures]
    return {array: [row[array][0] for row in rows] for array in rows[0]}


def parity(name: str, windows: Sequence[Sequence[Frame]], device: str) -> Iterator[dict[str, Any]]:
    """A line for each choice and array."""
    spec, others = EXTRACTORS[name], ARRAYS.get(name, {})
    reference = on_cpu(name, windows, **others)
    for choice in CHOICES:
        extractor = build(name, choice, device, **others)
        found = extractor.extract(prepared(extractor, windows))
        for array, drift in output_errors(reference, found).items():
            limit = allowed_error(spec.name, array, Numerics(**CHOICES[choice]))
            limit_text = "refused" if limit is None else str(limit)
            if choice == "fp32":
                limit_text = "1e-4"  # rounding on another device
            line = {
                "extractor": name,
                "choice": choice,
                "array": array,
                "norm": drift.norm,
                "largest": drift.largest,
            }
            yield {**line, "unmatched": drift.unmatched, "allowed": limit_text}
        if name == "keypoint_rcnn":
            yield {
                "extractor": name,
                "choice": choice,
                "array": "of persons",
                **persons(reference, found),
            }


def persons(reference: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Errors in pixels and scores of matched persons, and the share of keypoints within 0.05 px."""
    box_errors, score_errors, distances, count = [0.0], [0.0], [], 0
    for row, (expected, boxes) in enumerate(zip(reference["boxes"], found["boxes"], strict=True)):
        ours, theirs = match_items(expected, boxes)
        if not ours:
            continue
        count += len(ours)
        box_errors.append(float(np.abs(expected[ours, :4] - boxes[theirs, :4]).max()))
        score_errors.append(float(np.abs(expected[ours, 4] - boxes[theirs, 4]).max()))
        offsets = reference["joints"][row][ours, :, :2] - found["joints"][row][theirs, :, :2]
        distances += list(np.linalg.norm(offsets, axis=-1).reshape(-1))
    near = float(np.mean(np.array(distances) <= 0.05)) if distances else 0.0
    summary = (
        f"{count} persons: boxes {max(box_errors):.1e} px, scores {max(score_errors):.1e}, "
        f"{near:.2%} of {len(distances)} keypoints within 0.05 px"
    )
    return {
        "norm": max(box_errors),
        "largest": max(score_errors),
        "unmatched": 1 - near,
        "allowed": summary,
    }


def tell_parity(report: Report, frames: Sequence[Frame], given: argparse.Namespace) -> None:
    """The table of errors."""
    lines: list[dict[str, Any]] = []
    for name in given.extractors:
        of_one = parity(name, windows_of(name, frames, given.windows), given.device)
        report.attempt(lambda of_one=of_one: lines.extend(of_one), f"parity of {name}")  # type: ignore[misc]
    table: list[Sequence[Any]] = [
        ("extractor", "choice", "array", "norm", "largest", "unmatched", "allowed")
    ]
    table += [
        (
            line["extractor"],
            line["choice"],
            line["array"],
            f"{line['norm']:.1e}",
            f"{line['largest']:.1e}",
            f"{line['unmatched']:.2%}",
            line["allowed"],
        )
        for line in lines
    ]
    report.section(f"parity with the CPU, {given.windows} windows each", table, lines)
