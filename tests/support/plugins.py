"""Installed distributions with entry points, made in a folder that joins `sys.path`."""

from __future__ import annotations

from pathlib import Path

MEAN_COLOUR = '''
"""Mean colour of a frame."""

from dataclasses import dataclass

import numpy as np

from models.extractors.base.contract import ArraySpec, ExtractorSpec
from models.extractors.base.sampling import FramesAtRate


@dataclass(frozen=True)
class MeanColourSettings:
    """Settings of `mean_colour`."""

    frames_per_second: float = 1.0
    """Frames per second of video."""


class MeanColour:
    """The extractor."""

    def prepare(self, frame):
        return frame.mean(axis=(0, 1)).astype(np.float32)

    def extract(self, windows):
        return {"mean": [window[-1] for window in windows]}


SPEC = ExtractorSpec(
    name="mean_colour",
    numerics_version=1,
    settings_type=MeanColourSettings,
    arrays=lambda settings: {"mean": ArraySpec("float32", (3,))},
    sampling=lambda settings: FramesAtRate(settings.frames_per_second),
    build=lambda settings, weights, device: MeanColour(),
    needs_weights=False,
)
'''
"""The module of an extractor of another distribution, whose name is `mean_colour`."""


def install(site: Path, name: str, version: str, group: str, points: str, **modules: str) -> None:
    """Put a distribution into `site`: its metadata, its entry points, and its modules' sources."""
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{points}\n")
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
