"""Settings and constants of C3D; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.extractors.base.precision import Numerics
from models.validation import at_least, distinct_names, one_of

CLIP_FRAMES = 16

ARRAYS = {"pool5": 8192, "fc6": 4096, "fc7": 4096, "fc6_linear": 4096, "fc7_linear": 4096}
"""The arrays that can be kept → their widths.

The papers' "C3D conv5" feature is `pool5`. The linear ones are before ReLU.
"""

SAMPLINGS = {"consecutive": "", "segments": "equal", "segments_released": "released"}
"""Value of the setting `sampling` → how frames are spread over an annotated segment.

Empty if clips do not follow segments.
"""

POOLINGS = ("ceil", "symmetric")
CHANNEL_MEANS = "channels"
MEAN_SUFFIXES = (".binaryproto", ".npy")


@dataclass(frozen=True)
class C3DSettings(Numerics):
    """What a user may set of `c3d`."""

    arrays: tuple[str, ...] = ("pool5", "fc6")
    """Which to keep of pool5 (8192 wide), fc6 and fc7 (4096 wide, after ReLU), fc6_linear and
    fc7_linear (before).
    """
    stride_frames: int = CLIP_FRAMES
    """A clip of 16 frames starts every so many native frames; 16 means clips side by side."""
    sampling: str = "consecutive"
    """`consecutive` native frames; or a row for each annotated segment, its 16 frames spread over
    it: `segments` at equal intervals, `segments_released` as the released code of set-based
    learning does.
    """
    pool5: str = "ceil"
    """`ceil` as Caffe pools; `symmetric` as the PyTorch ports pad, which gives other numbers."""
    mean: str = CHANNEL_MEANS
    """What is subtracted: `channels`, one number a channel, or the file of the published mean
    volume.
    """
    mirror: bool = False
    """Whether a row is the mean of the clip's features and those of its mirror image, as in
    Video2GIF.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct_names("arrays", self.arrays, ARRAYS)
        at_least("stride_frames", self.stride_frames, 1)
        one_of("sampling", self.sampling, SAMPLINGS)
        if self.sampling != "consecutive" and self.stride_frames != CLIP_FRAMES:
            raise ValueError(
                f"stride_frames has no effect with sampling = {self.sampling}; "
                f"leave it at {CLIP_FRAMES}"
            )
        one_of("pool5", self.pool5, POOLINGS)
        if self.mean != CHANNEL_MEANS:
            self._check_mean_file()

    def _check_mean_file(self) -> None:
        has_suffix = self.mean.endswith(MEAN_SUFFIXES)
        if not has_suffix or not Path(self.mean).is_file():
            raise ValueError(
                f"mean must be {CHANNEL_MEANS}, or an existing file that ends in "
                f"{' or '.join(MEAN_SUFFIXES)}; got {self.mean!r}"
            )
