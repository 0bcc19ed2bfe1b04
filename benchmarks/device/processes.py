"""The same videos through one, two, four and eight processes that share the GPU and the cores.

Threads of one process wait for each other in Python; processes do not, but each has a network of
its own on the GPU. What wins is `[cluster] kind = local`, `workers = N`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

from benchmarks.device.engine import PHD2_NATIVE_FRAMES, shard, variants_of
from benchmarks.device.report import Report

CHOICES = {"c3d": "bf16, fast"}
COUNTS = (1, 2, 4, 8)


def share(video: Path, copies: int, device: str, decoders: int, ready: Any) -> tuple[float, float]:
    """When one process began and ended, by a clock that all of them read; its network is warm
    before.
    """
    import torch

    torch.set_num_threads(max(1, decoders))
    variants = variants_of(("c3d",), CHOICES)
    shard(video, 2, variants, device, 1)
    ready.wait()
    began = time.time()
    shard(video, copies, variants, device, decoders)
    return began, time.time()


def together(video: Path, copies: int, device: str, decoders: int, processes: int) -> float:
    """Seconds that all copies take, spread over so many processes."""
    with SyncManager(ctx=get_context("spawn")) as manager:
        ready = manager.Barrier(processes)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            given = (video, copies // processes, device, max(1, decoders // processes), ready)
            spans = [one.result() for one in [pool.submit(share, *given) for _ in range(processes)]]
    return max(end for _, end in spans) - min(began for began, _ in spans)


def tell_processes(
    report: Report, video: Path, frames: Sequence[Any], given: argparse.Namespace
) -> None:
    """Frames a second by the number of processes."""
    table: list[Sequence[Any]] = [
        ("processes", "decoders of each", "seconds", "frames/s", "PHD2 h")
    ]
    for count in COUNTS:
        if count > given.decoders:
            break
        seconds = together(video, given.copies, given.device, given.decoders, count)
        rate = len(frames) * (given.copies // count * count) / seconds
        hours = PHD2_NATIVE_FRAMES / rate / 3600
        table.append(
            (count, given.decoders // count, f"{seconds:.2f}", f"{rate:.0f}", f"{hours:.1f}")
        )
    report.section(
        f"C3D in bf16, processes that share the device, {os.cpu_count()} cores", table, table
    )
