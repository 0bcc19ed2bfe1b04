"""Records how features were made, apart from their settings: versions, device and code.

Provenance is stored beside features and is not part of their fingerprint. It contains no time, host
or path, so that equal builds stay equal byte for byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping

from models.extractors.registry import EXTRACTORS
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
"""Packages whose version may change the numbers, or which bytes are downloaded."""


def provenance(
    variant: Variant, device: str, decoder: str, before: Mapping[str, JSON]
) -> dict[str, JSON]:
    """How `variant`'s rows were made on `device` here, from `decoder`'s frames.

    `before` is the provenance that the shard has by now: if several machines add to a shard, the
    kinds of all their processors are kept.
    """
    earlier = before.get(PROCESSORS)
    kinds = {processor_kind(device)}
    if isinstance(earlier, list):
        kinds.update(map(str, earlier))
    # Sorted, so that equal builds write equal bytes.
    processors: list[JSON] = [*sorted(kinds)]
    plugin = EXTRACTORS.plugins.get(variant.spec.name)
    return {
        "code": code_version(),
        "decoder": decoder,
        "device": device,
        "libraries": dict(library_versions()),
        PROCESSORS: processors,
        "weights": weights_identity(variant.weights),
        **({} if plugin is None else {"plugin": dataclasses.asdict(plugin)}),
    }


@functools.cache
def library_versions() -> tuple[tuple[str, str], ...]:
    """Name and version of Python and of every library in `LIBRARIES` that is installed."""
    versions = []
    for name in LIBRARIES:
        # Some belong to extras that this environment may not have.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append((name, importlib.metadata.version(name)))
    return (("python", platform.python_version()), *versions)


@functools.cache
def code_version() -> str:
    """The release, and in a checkout also the commit; `+changed` if the working tree differs."""
    release = importlib.metadata.version("video-highlights")
    if not (PROJECT_ROOT / ".git").exists():
        return release
    describe = ["describe", "--always", "--dirty=+changed", "--abbrev=12", "--exclude=*"]
    try:
        described = subprocess.run(
            ["git", "-C", str(PROJECT_ROOT), *describe],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return release  # git is missing, or refuses to read this checkout
    return f"{release}+g{described.stdout.strip()}"
