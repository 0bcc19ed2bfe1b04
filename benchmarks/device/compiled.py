"""Does `torch.compile` pay? Each network alone, as it is and compiled, its input on the device.

Compiled code may add up in another order, so what its output differs by stands beside the speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.device.parts import build, median_seconds, prepared, synchronize, windows_of
from benchmarks.device.report import Report
from benchmarks.device.speed import SIZES, heavy_part, seen_by
from models.extractors.base.contract import Frame
from models.extractors.base.precision import is_gpu


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a network's output, also in nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)


def apart(found: Any, known: Any) -> float:
    """Norm of the difference over the norm, of the tensor where that is largest."""
    pairs = zip(tensors(found), tensors(known), strict=True)
    return max(
        float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-30)) for a, b in pairs
    )


def line(
    name: str, choice: str, size: int, frames: Sequence[Frame], given: argparse.Namespace
) -> list[Any]:
    """One network at one batch size."""
    extractor = build(name, choice, given.device)
    clips = prepared(extractor, windows_of(name, frames, 8))
    part = heavy_part(extractor)
    seen = seen_by(part, extractor, [clips[number % 8] for number in range(size)])
    with torch.inference_mode():
        plain = size / median_seconds(lambda: part(*seen), given.device, given.seconds)
        compiled = torch.compile(part)
        began = time.perf_counter()
        answer = compiled(*seen)
        synchronize(given.device)
        first = time.perf_counter() - began
        rate = size / median_seconds(lambda: compiled(*seen), given.device, given.seconds)
        return [
            name,
            choice,
            size,
            f"{plain:.4g}",
            f"{rate:.4g}",
            f"{first:.1f}",
            f"{apart(answer, part(*seen)):.1e}",
        ]


def tell_compiled(report: Report, frames: Sequence[Frame], given: argparse.Namespace) -> None:
    """Windows a second of each network, plain and compiled."""
    head = (
        "extractor",
        "precision",
        "batch",
        "network alone/s",
        "compiled/s",
        "first call s",
        "apart",
    )
    table: list[Sequence[Any]] = [head]

    def measure(name: str, choice: str) -> None:
        size = SIZES[name][-2] if is_gpu(given.device) else 1
        table.append(line(name, choice, size, frames, given))

    for name in given.extractors:
        for choice in ("fp32", "bf16"):
            report.attempt(partial(measure, name, choice), f"{name} {choice} compiled")
    report.section("torch.compile", table, table)
