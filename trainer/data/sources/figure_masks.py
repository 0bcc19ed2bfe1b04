"""Masks of the figure in synthetic videos, read from the catalog's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed
from storage.base.paths import Layout
from storage.files.external_arrays import read_arrays


def read_figure_mask(folder: Path, video_id: str) -> NDArray[np.bool_]:
    """`(T, H, W)` bool: the pixels of each frame that show the figure.

    LookupFailed if the catalog has no mask of the video.
    """
    catalog_folder = folder.absolute()
    layout = Layout(catalog_folder.parent, catalog_folder.name)
    path = layout.sources / f"{video_id}.figure.npy"
    if not path.is_file():
        raise LookupFailed(f"{path} does not exist: only synthetic catalogs have figure masks")
    _, packed = next(read_arrays(path))
    return np.unpackbits(packed, axis=2).astype(np.bool_)
