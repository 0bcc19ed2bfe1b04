"""`tased`: a saliency map for chosen instants, each from the 32 frames up to it.

The network, its source and its preprocessing are in `network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, GoldenCase
from models.extractors.base.sampling import FramesAtRateWithHistory, Sampling
from models.extractors.tased.settings import CLIP_FRAMES, MAP_HEIGHT, MAP_WIDTH, TasedSettings


def _build(settings: TasedSettings, weights: str, device: str) -> Extractor:
    from models.extractors.tased.extractor import build_extractor

    return build_extractor(settings, weights, device)


def _arrays(settings: TasedSettings) -> Mapping[str, ArraySpec]:
    block = settings.block_pixels
    return {"saliency": ArraySpec("float16", (MAP_HEIGHT // block, MAP_WIDTH // block))}


def _sampling(settings: TasedSettings) -> Sampling:
    return FramesAtRateWithHistory(settings.frames_per_second, history_frames=CLIP_FRAMES)


SPEC = ExtractorSpec(
    name="tased",
    numerics_version=2,
    settings_type=TasedSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=True,
    windows_on_gpu=16,
    # Unpooled saliency amplifies rounding: noise of 1e-7 in every convolution, two threads and
    # float64 each change it by 8e-5; two frames in the wrong order, or a mean that is off by 4 of
    # 255, by 2e-2.
    golden=GoldenCase(settings={"block_pixels": 8}, tolerances={"saliency": 1e-3}),
)
