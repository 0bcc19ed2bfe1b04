"""Which extra of this project installs a library, for messages about one that is missing."""

from __future__ import annotations

import sys

WRONG_USE = 2
"""The exit code of a command that cannot run as it was given or installed."""
EXTRAS = {
    "av": "features",
    "cv2": "features",
    "ffmpeg": "features",
    "imageio_ffmpeg": "features",
    "luigi": "features",
    "matplotlib": "features",
    "PIL": "features",
    "pyarrow": "export",
    "pandas": "export",
    "webdataset": "export",
    "zarr": "export",
    "datasets": "export",
    "bokeh": "dashboard",
    "tenacity": "features",
    "jinja2": "train",
    "pydantic": "features",
    "pymatreader": "features",
    "safetensors": "features",
    "torch": "features",
    "torchvision": "features",
    "tqdm": "features",
    "yt_dlp": "download",
    "sklearn": "train",
    "tensorboard": "train",
    "cryptography": "cluster",
    "dask": "cluster",
    "dask_jobqueue": "cluster",
    "distributed": "cluster",
    "ultralytics": "ultralytics",
    "decord": "decord",
    "torchcodec": "torchcodec",
}
"""Library → the extra of this project that installs it."""


SHARED_WITH_TRAINING = frozenset(
    {"cv2", "luigi", "matplotlib", "pydantic", "safetensors", "torch", "tqdm"}
)
"""Libraries of [features] that [train] installs too."""


def install_advice(extra: str) -> str:
    """How to install an extra."""
    return f"run pip install '.[{extra}]' in your checkout of video-highlights"


def missing_library(error: ModuleNotFoundError, *, is_training: bool = False) -> str:
    """What to install where a library is missing; empty for any other library.

    `is_training`: a command of `trainer`, which needs [train] in any case.
    """
    library = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(library)
    if extra is None:
        return ""
    if is_training and library in SHARED_WITH_TRAINING:
        extra = "train"
    return f"{library} is not installed: {install_advice(extra)}"


def exit_if_missing(error: ModuleNotFoundError) -> None:
    """Exit with code 2 and what to install, if `error` is about a library of an extra."""
    message = missing_library(error)
    if message:
        sys.stderr.write(f"{message}\n")
        raise SystemExit(WRONG_USE) from error
