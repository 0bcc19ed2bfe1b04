"""What made a feature, apart from its settings: versions, device, code. Recorded beside features,
never part of their fingerprint.

Knows names and versions. Holds no time, host or path, so that equal builds stay equal bytes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping

from pipeline.child_processes.project_root import PROJECT_ROOT
from pipeline.compute.processor_kind import processor_kind
from pipeline.extraction.variant import Variant, weights_identity
from storage.base.records import JSON
from storage.features.manifest import PROCESSORS

LIBRARIES = (
    "av",
    "h5py",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "torch",
    "torchvision",
    "ultralytics",
    "yt-dlp",
)
"""Distributions whose version may change the numbers, or which bytes were downloaded."""


def provenance(
    variant: Variant, device: str, decoder: str, before: Mapping[str, JSON]
) -> dict[str, JSON]:
    """Everything worth knowing about how `variant`'s rows were made here, on `device`, from
    `decoder`'s frames.

    `before` is what stood there: a shard to which several machines added tells of the kinds of all
    their processors.
    """
    earlier = before.get(PROCESSORS)
    kinds = {*(map(str, earlier) if isinstance(earlier, list) else ()), processor_kind(device)}
    return {
        "code": code_version(),
        "decoder": decoder,
        "device": device,
        "libraries": dict(library_versions()),
        PROCESSORS: sorted(kinds),
        "weights": weights_identity(variant.weights),
    }


@functools.cache
def library_versions() -> tuple[tuple[str, str], ...]:
    """Name and version of Python and of every library in `LIBRARIES`."""
    versions = [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    return (("python", platform.python_version()), *versions)


@functools.cache
def code_version() -> str:
    """The release, and in a checkout also the commit, with `+changed` when the working tree differs
    from it.
    """
    release = importlib.metadata.version("video-highlights")
    if not (PROJECT_ROOT / ".git").exists():
        return release
    try:
        described = subprocess.run(
            ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty=+changed", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return release  # no git here, or a checkout it refuses to read: the release is what we know
    return f"{release}+g{described.stdout.strip()}"
