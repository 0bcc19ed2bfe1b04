"""Measures extractors on a GPU in minutes: `python -m benchmarks.device VIDEO --out FOLDER`.

Weights are random and seeded.

- parity: every kept array on the GPU against the CPU's (fp32, parity), in fp32, bf16 and with the
  fast resize;
- speed: windows a second at several batch sizes, pictures brought and rows fetched included; and
  the network alone, as a share of a matrix product of its number format in the same run;
- engine: a shard of copies of the video, against decoding alone and computing alone;
- processes: the same through one to eight processes that share the GPU;
- compiled: the network alone as `torch.compile` makes it;
- PHD2: the hours that follow, beside what was published.

Writes `device.md` and `device.json`, each section as soon as it is known. Random weights: numbers
here are times and errors of arithmetic, not results. With `--device cpu` it only shows that it
runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.device.compiled import tell_compiled
from benchmarks.device.engine import tell_decoding, tell_engine
from benchmarks.device.parity import tell_parity
from benchmarks.device.parts import NETWORKS, frames_of
from benchmarks.device.processes import tell_processes
from benchmarks.device.report import Report
from benchmarks.device.speed import Speed, tell_benchmark_mode, tell_kernels, tell_phd2, tell_speed
from models.extractors.base.precision import is_gpu
from pipeline.compute.processor_kind import processor_kind


def main() -> None:
    """Everything, in the order of importance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", type=Path, default=Path("device-report"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--extractors", type=lambda text: text.split(","), default=list(NETWORKS))
    parser.add_argument("--windows", type=int, default=16, help="of the parity table")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each median")
    parser.add_argument("--copies", type=int, default=96, help="videos of the engine's shard")
    parser.add_argument("--decoders", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--sets", type=int, default=7, help="of extractors that the engine is measured with"
    )
    parser.add_argument(
        "--sizes", type=int, default=9, help="so many of the batch sizes, the largest"
    )
    parser.add_argument(
        "--sections",
        type=lambda text: text.split(","),
        default=[],
        help="in this order; all if empty",
    )
    parser.add_argument(
        "--limit", type=float, default=280.0, help="no section is begun after so many seconds"
    )
    given = parser.parse_args()
    report = Report(given.out)
    frames = frames_of(given.video)
    torch.set_num_threads(max(1, given.decoders))
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    what = [("video", "frames", "decoders"), (given.video.name, len(frames), given.decoders)]
    report.section(f"{processor_kind(given.device)}, {versions}", what, versions)
    found: list[Speed] = []
    sections: dict[str, Callable[[], None]] = {
        "speed": lambda: tell_speed(report, frames, given, found),
        "phd2": lambda: tell_phd2(report, found),
        "engine": lambda: tell_engine(report, given.video, frames, given),
        "processes": lambda: tell_processes(report, given.video, frames, given),
        "parity": lambda: tell_parity(report, frames, given),
        "compiled": lambda: tell_compiled(report, frames, given),
        "decoding": lambda: tell_decoding(report, given.video, given),
    }
    if is_gpu(given.device):
        sections["kernels"] = lambda: tell_kernels(report, frames)
        sections["algorithms"] = lambda: tell_benchmark_mode(report, frames, found, given)
    chosen = [name for name in given.sections or sections if name in sections]
    for number, name in enumerate(chosen):
        if time.perf_counter() - report.began > given.limit:
            report.section(f"left out for lack of time: {', '.join(chosen[number:])}", [("",)], [])
            break
        report.attempt(sections[name], name)
    if report.broken:
        sys.exit(f"not measured, for the reasons above: {', '.join(report.broken)}")


if __name__ == "__main__":
    main()
