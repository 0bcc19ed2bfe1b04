"""Generates saliency for a synthetic catalog: where people would look, if they look at the figure.

It replaces TASED-Net when its weights are not available. It writes the variant `tased` of a catalog
whose sources have masks of the figure (`<id>.figure.npy`, of the category sample), for instants of
the pictures that the catalog already has. A figure is always salient, so saliency does
not reveal highlights, and a bystander is never salient. The weights are named `planted:SEED`.

Letters in shapes: T frames, n instants, H and W pixels, h and w values of a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.base.fingerprint import to_json_value
from storage.base.paths import Layout
from storage.base.records import JSON, FeatureTrack
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.store import FeatureStore, VariantReader
from trainer.data.sources.figure_masks import read_figure_mask
from trainer.data.sources.intervals import Intervals
from trainer.synthetic.variant_writer import write_variant

VARIANT = "tased"
PICTURES = "frames"


@dataclass(frozen=True)
class SaliencySettings:
    """How saliency is generated."""

    seed: int = 0
    frames_per_second: float = 1 / 3
    """Maps per second, from `first_second` on: one in each of the category sample's segments."""
    first_second: float = 2.75
    """So late that the 32 frames of TASED-Net that end there lie in the first segment."""
    block_pixels: int = 2
    """Side of the block of pixels that becomes one value of a map."""
    blur_blocks: float = 0.6
    """Standard deviation of the blur."""
    peak: float = 2e-3
    """Value in the middle of a figure: four times PLD-VHD's β, so that a map is above β about where
    the figure is.
    """
    floor: float = 2e-4
    """Upper end of the uniform noise far from the figure."""

    def __post_init__(self) -> None:
        is_positive = self.frames_per_second > 0 and self.blur_blocks > 0
        if not is_positive or self.block_pixels < 1 or self.first_second < 0:
            raise ValueError(
                "frames_per_second and blur_blocks must be above 0, block_pixels at least 1, "
                f"first_second at least 0; got {self}"
            )
        if not 0 <= self.floor < self.peak <= 1:
            raise ValueError(f"0 <= floor < peak <= 1 must hold, got {self}")

    @property
    def mark(self) -> str:
        """The name of the weights."""
        return f"planted:{self.seed}"


def synthesize_saliency(folder: Path, settings: SaliencySettings) -> Path:
    """Write the variant `tased` of the catalog in `folder`; returns the variant's folder.

    Writing the same again changes nothing. Raises LookupFailed if the catalog has no pictures, or a
    video no mask, and SettingsError if the pictures are not all of a video's frames.
    """
    catalog = read_catalog(folder)
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    pictures = FeatureStore(folder)[PICTURES]
    described: dict[str, JSON] = {
        "extractor": VARIANT,
        "settings": to_json_value(settings),
        "weights": settings.mark,
    }
    all_ids = [video.video_id for video in catalog.videos]
    # A video without pictures has no saliency, for the same reason.
    statuses = pictures.statuses
    failures = {name: statuses[name] for name in all_ids if name not in pictures}
    variant = write_variant(
        layout,
        catalog,
        VARIANT,
        described,
        lambda video_id: _track(layout, catalog, video_id, pictures, settings),
        failures=failures,
    )
    return variant.folder


def _track(
    layout: Layout,
    catalog: Catalog,
    video_id: str,
    pictures: VariantReader,
    settings: SaliencySettings,
) -> FeatureTrack:
    figure = read_figure_mask(layout.folder, video_id)
    spans = pictures[video_id].spans
    if len(spans) != len(figure):
        n_pictures, n_frames = len(spans), len(figure)
        raise SettingsError(
            (
                f"{video_id} has {n_pictures} pictures in {pictures.name} and {n_frames} frames in "
                f"{catalog.name}'s sources; extract frames with frames_per_second = 0",
            )
        )
    chosen = frames_at_instants(spans, settings.frames_per_second, settings.first_second)
    # A generator of its own for each video, so that maps do not depend on the order of videos.
    rng = np.random.default_rng([settings.seed, *video_id.encode()])
    return FeatureTrack(
        video_id, spans[chosen], {"saliency": saliency_maps(figure[chosen], settings, rng)}
    )


def frames_at_instants(spans: Intervals, per_second: float, first: float) -> NDArray[np.int64]:
    """The frames shown at `first`, `first` + 1 / `per_second`, ... seconds after the first frame.

    Each frame is given once.
    """
    seconds = spans[-1, 1] - spans[0, 0]
    wanted = spans[0, 0] + first + np.arange(int(seconds * per_second) + 1) / per_second
    wanted = wanted[wanted < spans[-1, 1]]
    # An instant that is a frame's own start must not be rounded to the frame before.
    return np.unique(np.searchsorted(spans[:, 0], wanted + 1e-9, side="right") - 1)


def saliency_maps(
    figure: NDArray[np.bool_], settings: SaliencySettings, rng: np.random.Generator
) -> NDArray[np.float16]:
    """`(n, H, W)` masks → `(n, h, w)` maps: the blurred figure over a floor of noise."""
    n, height, width = figure.shape
    block = settings.block_pixels
    shares = figure.reshape(n, height // block, block, width // block, block).mean((2, 4))
    blurred = np.stack([cv2.GaussianBlur(share, (0, 0), settings.blur_blocks) for share in shares])
    noise = settings.floor * rng.random(shares.shape)
    return np.asarray(np.maximum(settings.peak * blurred, noise), np.float16)
