"""The `frames` extractor: small JPEG pictures of chosen instants, without a network.

People look at them, and pixel-level highlight models read them.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, GoldenCase
from models.extractors.base.sampling import EveryFrame, FramesAtRate, Sampling
from models.extractors.jpeg_frames.settings import FramesSettings


def _sampling(settings: FramesSettings) -> Sampling:
    return FramesAtRate(settings.frames_per_second) if settings.frames_per_second else EveryFrame()


def _arrays(_: FramesSettings) -> Mapping[str, ArraySpec]:
    return {"jpeg": ArraySpec("uint8", (), ragged=True)}


def _build(settings: FramesSettings, _weights: str, _device: str) -> Extractor:
    from models.extractors.jpeg_frames.extractor import JpegFrames

    return JpegFrames(settings)


SPEC = ExtractorSpec(
    name="frames",
    numerics_version=1,
    settings_type=FramesSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=False,
    # JPEG decoders differ by a step of 255.
    golden=GoldenCase(tolerances={"jpeg": 1e-2}),
)
