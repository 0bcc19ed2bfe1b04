"""`c3d`, the clip feature under every highlight model of the five papers: what it keeps, samples and lets one set.

The network itself, its source and its preprocessing are in `c3d_network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.extractors.spec import ArraySpec, ConsecutiveFrames, Extractor, ExtractorSpec, Sampling

CLIP_FRAMES = 16

ARRAYS = {"pool5": 8192, "fc6": 4096, "fc7": 4096}
"""What can be kept, and how wide it is. The papers' "C3D conv5" feature is `pool5`; fc6 and fc7 are kept after ReLU."""


@dataclass(frozen=True)
class C3DSettings:
    """What a user may set of `c3d`."""

    arrays: tuple[str, ...] = ("pool5", "fc6")
    """Which of pool5 (8192 wide), fc6 and fc7 (4096 wide, after ReLU) to keep."""
    stride_frames: int = CLIP_FRAMES
    """A clip of 16 frames starts every so many native frames; 16 means clips side by side."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.arrays if name not in ARRAYS]
        if unknown or not self.arrays or len(set(self.arrays)) != len(self.arrays):
            raise ValueError(f"arrays names one or more of {', '.join(ARRAYS)}, each once; got {self.arrays}")
        if self.stride_frames < 1:
            raise ValueError(f"stride_frames is at least 1, got {self.stride_frames}")


def _build(settings: C3DSettings, weights: str, device: str) -> Extractor:
    from models.extractors.c3d_network import build_extractor

    return build_extractor(settings.arrays, weights, device)


def _arrays(settings: C3DSettings) -> Mapping[str, ArraySpec]:
    return {name: ArraySpec("float16", (ARRAYS[name],)) for name in settings.arrays}


def _sampling(settings: C3DSettings) -> Sampling:
    return ConsecutiveFrames(length_frames=CLIP_FRAMES, stride_frames=settings.stride_frames)


SPEC = ExtractorSpec(
    name="c3d",
    numerics_version=1,
    settings_type=C3DSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=True,
)
