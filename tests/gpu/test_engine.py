"""On a real GPU: known numbers, rows beside neighbours, a build like the CPU's, memory that really
runs out.

Needs no video and no ffmpeg: frames are drawn, and encoded by PyAV.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.extractors.base.contract import Extractor, accepts_planes
from models.extractors.base.inference import stack_frames
from models.extractors.base.precision import ALLOWED_ERRORS, Numerics, OutputError
from models.extractors.golden import golden_outputs
from models.extractors.golden.output_error import output_errors
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import ComputeRequest
from pipeline.compute.gpu_batcher import GpuBatcher, known_batch_size
from pipeline.decoding.video_reader import VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.media_file import Media
from storage.base.paths import Layout
from storage.features.store import FeatureStore
from tests.gpu.test_nvdec import FRAMES, encoded

pytestmark = pytest.mark.gpu
NETWORKS = [name for name, spec in EXTRACTORS.items() if spec.needs_weights]
NEAR = {"tased": OutputError(1e-3, 2e-2), "keypoint_rcnn": OutputError(5e-3, 5e-2, 0.01)}
"""Unpooling amplifies rounding, near-ties of heatmaps flip; all others within 1e-4."""


def built(name: str, device: str, **others: Any) -> Extractor:
    spec = EXTRACTORS[name]
    return spec.build(golden_outputs.golden_settings(spec, **others), "random:0", device)


def windows(name: str, extractor: Extractor, count: int) -> list[list[Any]]:
    spec = EXTRACTORS[name]
    length = golden_outputs.window_frames(spec.sampling(golden_outputs.golden_settings(spec)))
    frames = [extractor.prepare(frame) for frame in golden_outputs.synthetic_clip(length + count)]
    return [frames[start : start + length] for start in range(count)]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_known_numbers_are_met(name: str) -> None:
    spec = EXTRACTORS[name]
    assert (
        list(
            golden_outputs.golden_differences(
                spec, golden_outputs.compute_golden_outputs(spec, "cuda")
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("choice", "name"), [(choice, name) for choice in ALLOWED_ERRORS for name in NETWORKS]
)
def test_departures_stay_within_what_is_allowed(choice: str, name: str) -> None:
    if not any(array.startswith(f"{name}.") for array in ALLOWED_ERRORS[choice]):
        pytest.skip(f"{choice} is not offered for {name}")
    numerics = Numerics(precision="bf16") if choice == "bf16" else Numerics(resize="fast")
    assert list(golden_outputs.precision_violations(EXTRACTORS[name], "cuda", numerics)) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_neighbours_in_a_batch_change_no_more_than_rounding(name: str) -> None:
    extractor = built(name, "cuda")
    clips = windows(name, extractor, 5)
    together = extractor.extract(clips)
    alone = [extractor.extract([clip]) for clip in clips]
    reference = {array: [row[array][0] for row in alone] for array in together}
    for array, drift in output_errors(reference, together).items():
        assert not drift.exceeds(NEAR.get(name, OutputError(1e-4, 1e-3))), (
            f"{name}.{array}: {drift}"
        )


def test_rgb_of_planes_is_ffmpegs_to_the_bit(tmp_path: Path) -> None:
    path = encoded(tmp_path / "v.mkv", "libx264")
    count = 0
    for frame in VideoReader(
        "v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None
    ):
        planes = frame.to_planes()
        if planes is None:
            pytest.skip(
                "LOUD SKIP: this FFmpeg converts by other arithmetic; nothing is handed over as planes"
            )
        found = stack_frames([planes], "cuda")[0].permute(1, 2, 0).cpu().numpy()
        np.testing.assert_array_equal(found, frame.to_rgb())
        count += 1
    assert count == FRAMES


@pytest.mark.parametrize("name", ["c3d", "yolov5", "tased"])
def test_rows_of_planes_are_those_of_rgb(name: str, tmp_path: Path) -> None:
    path, extractor = encoded(tmp_path / "v.mkv", "libx264"), built(name, "cuda", resize="fast")
    assert accepts_planes(extractor)
    length = golden_outputs.window_frames(
        EXTRACTORS[name].sampling(golden_outputs.golden_settings(EXTRACTORS[name]))
    )
    frames = list(
        islice(
            VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None),
            length,
        )
    )
    planes = [extractor.prepare(frame.to_planes()) for frame in frames]
    rgb = [extractor.prepare(frame.to_rgb()) for frame in frames]
    found, expected = extractor.extract([planes]), extractor.extract([rgb])
    for array, drift in output_errors(expected, found).items():
        assert not drift.exceeds(OutputError(1e-5, 1e-4)), f"{array}: {drift}"


def test_two_threads_at_once_stay_in_full_float32() -> None:
    extractor = built("c3d", "cuda")
    clips = windows("c3d", extractor, 8)
    reference = built("c3d", "cpu").extract(clips[:1])
    found: list[Any] = []

    def bring(batcher: GpuBatcher) -> None:
        futures = [batcher.compute(ComputeRequest(extractor, [clip], 2)) for clip in clips * 4]
        found.extend(future.result() for future in futures[::8])

    with GpuBatcher("cuda") as batcher:
        threads = [threading.Thread(target=bring, args=(batcher,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for rows in found:
        for array, drift in output_errors(reference, rows).items():
            assert not drift.exceeds(OutputError(1e-4, 1e-3)), f"{array}: {drift}"


def test_memory_that_really_runs_out_halves_the_batch() -> None:
    extractor = built("c3d", "cuda")
    clips = windows("c3d", extractor, 4)
    reference = extractor.extract(clips[:1])
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_allocated() + 6e9) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with GpuBatcher("cuda") as batcher:
            futures = [
                batcher.compute(ComputeRequest(extractor, [clips[0]], 512)) for _ in range(1024)
            ]
            rows = [future.result()["pool5"][0] for future in futures]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert known_batch_size(extractor, 512) < 512, (
        "6 GB were enough for 512 clips: this shows nothing"
    )
    for row in rows[::100]:
        np.testing.assert_allclose(row, reference["pool5"][0], rtol=1e-3, atol=1e-4)


def store(
    folder: Path, video: Path, device: str, decoders: Sequence[SubprocessDecoder]
) -> FeatureStore:
    variants = [
        Variant("c3d", EXTRACTORS["c3d"], EXTRACTORS["c3d"].settings_type(), "random:0"),
        Variant(
            "yolov5",
            EXTRACTORS["yolov5"],
            golden_outputs.golden_settings(EXTRACTORS["yolov5"]),
            "random:0",
        ),
        Variant("frames", EXTRACTORS["frames"], EXTRACTORS["frames"].settings_type()),
    ]
    ids = tuple(f"video{number}" for number in range(6))
    job = ShardJob(Layout(folder, "copies"), 0, ids, tuple(variants), 10_000_000)
    process_shard(
        job,
        fetch=lambda *_: Media(video, "0" * 64, video.stat().st_size),
        decoder=decoders[0],
        more_decoders=decoders[1:],
        device=device,
        on_video=lambda *_: None,
    )
    assert job.is_complete()
    for decoder in decoders:
        decoder.close()
    return FeatureStore(folder / "copies")


def test_a_build_on_a_gpu_is_the_cpus_within_rounding(tmp_path: Path) -> None:
    video = encoded(tmp_path / "v.mkv", "libx264")
    ours = store(tmp_path / "gpu", video, "cuda", [SubprocessDecoder() for _ in range(4)])
    theirs = store(tmp_path / "cpu", video, "cpu", [SubprocessDecoder()])
    for name, arrays in {
        "c3d": ("pool5", "fc6"),
        "yolov5": ("p3", "p4", "p5"),
        "frames": (),
    }.items():
        for number in range(6):
            one, other = ours[name][f"video{number}"], theirs[name][f"video{number}"]
            np.testing.assert_array_equal(one.spans, other.spans)
            for array in arrays:
                here, there = (np.asarray(video[array][:], np.float64) for video in (one, other))
                error = np.linalg.norm(here - there) / np.linalg.norm(there)
                assert error <= 2e-3, f"{name}.{array}: {error}"
