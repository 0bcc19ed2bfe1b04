"""Planted saliency for a drawn catalog: what a network that knows where people look would say of
each figure.

Stands in for TASED-Net where no weights of it are at hand: the variant `tased` of a catalog whose
sources say where its figure is (`<id>.figure.npy`, of the category sample), about instants of the
pictures that the catalog already has. A figure is salient whatever it does, so no highlight can be
told from it, and a bystander never is. Marked `planted:SEED` where real saliency names its weights.
Refuses to know highlights and models.

Letters in shapes: T frames, n instants, H and W pixels, h and w values of a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.base.fingerprint import fingerprint, readable_json, to_json_value
from storage.base.paths import Layout
from storage.base.records import JSON, FeatureTrack
from storage.base.video_status import DONE
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.commit import DEFAULT_PART_BYTES, commit
from storage.features.manifest import ManifestEntry
from storage.features.store import FeatureStore, VariantReader
from storage.files.atomic_write import publish
from trainer.data.sources.figure_masks import read_figure_mask
from trainer.data.sources.intervals import Intervals

VARIANT = "tased"
PICTURES = "frames"


@dataclass(frozen=True)
class SaliencySettings:
    """What the planted network says."""

    seed: int = 0
    frames_per_second: float = 1 / 3
    """Maps of the frames shown at `first_second` and then at these instants: one in each of the
    category sample's segments ...
    """
    first_second: float = 2.75
    """... so late that a clip of 32 frames that ends there lies in it."""
    block_pixels: int = 2
    """A value is the mean over so many by so many pixels of the picture."""
    blur_blocks: float = 0.6
    """Standard deviation by which looks miss."""
    peak: float = 2e-3
    """Of a figure's middle: four times PLD-VHD's β, so that a map is above β about where the figure
    is.
    """
    floor: float = 2e-4
    """What a value far from the figure is at most; drawn evenly from 0."""

    def __post_init__(self) -> None:
        if (
            not self.frames_per_second > 0
            or self.block_pixels < 1
            or not self.blur_blocks > 0
            or self.first_second < 0
        ):
            raise ValueError(
                f"frames_per_second and blur_blocks are above 0, block_pixels at least 1, first_second at least 0; "
                f"got {self}"
            )
        if not 0 <= self.floor < self.peak <= 1:
            raise ValueError(f"0 <= floor < peak <= 1 must hold, got {self}")

    @property
    def mark(self) -> str:
        """What stands where real features name their weights."""
        return f"planted:{self.seed}"


def synthesize_saliency(folder: Path, settings: SaliencySettings) -> Path:
    """Write the variant `tased` of the catalog in `folder`; returns its folder. The same again
    changes nothing.

    Raises LookupFailed if the catalog has no pictures, or a video no figure; SettingsError if the
    pictures are not all of a video's frames.
    """
    catalog = read_catalog(folder)
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    pictures = FeatureStore(folder)[PICTURES]
    described: dict[str, JSON] = {
        "extractor": VARIANT,
        "settings": to_json_value(settings),
        "weights": settings.mark,
    }
    variant = layout.variant(VARIANT, fingerprint(described))
    publish(variant.settings_file, readable_json(described), replace=False)
    for shard in range(catalog.shard_count):
        ids = catalog.shard_ids(shard)
        entries = {video_id: _entry(video_id, pictures) for video_id in ids}
        tracks = (
            _track(layout, catalog, video_id, pictures, settings)
            for video_id in ids
            if video_id in pictures
        )
        commit(
            variant, catalog.name, shard, entries=entries, tracks=tracks,
            max_part_bytes=DEFAULT_PART_BYTES, provenance={"weights": settings.mark},
        )  # fmt: skip
    return variant.folder


def _entry(video_id: str, pictures: VariantReader) -> ManifestEntry:
    return ManifestEntry(DONE if video_id in pictures else pictures.statuses[video_id])


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
        raise SettingsError(
            (
                f"{video_id} has {len(spans)} pictures in {pictures.name} and {len(figure)} frames in "
                f"{catalog.name}'s sources; extract frames with frames_per_second = 0",
            )
        )
    chosen = frames_at_instants(spans, settings.frames_per_second, settings.first_second)
    rng = np.random.default_rng([settings.seed, *video_id.encode()])
    return FeatureTrack(
        video_id, spans[chosen], {"saliency": saliency_maps(figure[chosen], settings, rng)}
    )


def frames_at_instants(spans: Intervals, per_second: float, first: float) -> NDArray[np.int64]:
    """Which frames are shown at `first`, `first` + 1 / per_second, ... after the first frame's
    time; each once.
    """
    seconds = spans[-1, 1] - spans[0, 0]
    wanted = spans[0, 0] + first + np.arange(int(seconds * per_second) + 1) / per_second
    wanted = wanted[wanted < spans[-1, 1]]
    return np.unique(np.searchsorted(spans[:, 0], wanted + 1e-9, side="right") - 1)


def saliency_maps(
    figure: NDArray[np.bool_], settings: SaliencySettings, rng: np.random.Generator
) -> NDArray[np.float16]:
    """`(n, H, W)` bool → `(n, h, w)`: the figure, blurred, over a floor of noise."""
    n, height, width = figure.shape
    block = settings.block_pixels
    shares = figure.reshape(n, height // block, block, width // block, block).mean((2, 4))
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), settings.blur_blocks) for one in shares])
    return np.asarray(
        np.maximum(settings.peak * blurred, settings.floor * rng.random(shares.shape)), np.float16
    )
