"""Settings and constants of C3D; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.extractors.base.precision import Numerics

CLIP_FRAMES = 16


ARRAYS = {"pool5": 8192, "fc6": 4096, "fc7": 4096, "fc6_linear": 4096, "fc7_linear": 4096}
"""What can be kept, and how wide it is. The papers' "C3D conv5" feature is `pool5`; the linear ones
are before ReLU.
"""


SAMPLINGS = {"consecutive": "", "segments": "equal", "segments_released": "released"}
"""Value of the setting `sampling` → how the frames of an annotated segment are spread; empty if
clips need none.
"""


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
        unknown = [name for name in self.arrays if name not in ARRAYS]
        if unknown or not self.arrays or len(set(self.arrays)) != len(self.arrays):
            raise ValueError(
                f"arrays names one or more of {', '.join(ARRAYS)}, each once; got {self.arrays}"
            )
        if self.stride_frames < 1:
            raise ValueError(f"stride_frames is at least 1, got {self.stride_frames}")
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling is one of {', '.join(SAMPLINGS)}, got {self.sampling!r}")
        if self.sampling != "consecutive" and self.stride_frames != CLIP_FRAMES:
            raise ValueError(
                f"stride_frames says nothing with sampling {self.sampling}; leave it at {CLIP_FRAMES}"
            )
        if self.pool5 not in ("ceil", "symmetric"):
            raise ValueError(f"pool5 is ceil or symmetric, got {self.pool5!r}")
        if self.mean != CHANNEL_MEANS and not (
            self.mean.endswith(MEAN_SUFFIXES) and Path(self.mean).is_file()
        ):
            raise ValueError(
                f"mean is {CHANNEL_MEANS}, or a file that exists and ends in {' or '.join(MEAN_SUFFIXES)}; "
                f"got {self.mean!r}"
            )
