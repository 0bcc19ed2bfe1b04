"""`c3d`: the clip feature that most highlight models of the five papers read.

The network, its source and its preprocessing are in `network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, GoldenCase
from models.extractors.base.sampling import ConsecutiveFrames, FramesOfSegments, Sampling
from models.extractors.c3d.settings import (
    ARRAYS,
    CHANNEL_MEANS,
    CLIP_FRAMES,
    SAMPLINGS,
    C3DSettings,
)


def _build(settings: C3DSettings, weights: str, device: str) -> Extractor:
    from models.extractors.c3d.extractor import build_extractor

    return build_extractor(settings, weights, device)


def _arrays(settings: C3DSettings) -> Mapping[str, ArraySpec]:
    return {name: ArraySpec("float16", (ARRAYS[name],)) for name in settings.arrays}


def _sampling(settings: C3DSettings) -> Sampling:
    spread = SAMPLINGS[settings.sampling]
    if spread:
        return FramesOfSegments(length_frames=CLIP_FRAMES, spread=spread)
    return ConsecutiveFrames(length_frames=CLIP_FRAMES, stride_frames=settings.stride_frames)


def _files(settings: C3DSettings) -> tuple[str, ...]:
    return () if settings.mean == CHANNEL_MEANS else ("mean",)


SPEC = ExtractorSpec(
    name="c3d",
    numerics_version=1,
    settings_type=C3DSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=True,
    windows_on_gpu=64,
    files=_files,
    golden=GoldenCase(settings={"arrays": ("pool5", "fc6", "fc7")}),
)
