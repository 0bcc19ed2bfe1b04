"""Where the figure of a synthetic video is, read from the catalog's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed
from storage.base.paths import Layout
from storage.files.external_arrays import read_arrays


def read_figure_mask(folder: Path, video_id: str) -> NDArray[np.bool_]:
    """`(T, H, W)`: the pixels of each frame that show the figure. LookupFailed if the catalog's
    sources do not say.
    """
    path = (
        Layout(folder.absolute().parent, folder.absolute().name).sources / f"{video_id}.figure.npy"
    )
    if not path.is_file():
        raise LookupFailed(f"{path} is not there: only drawn catalogs say where their figure is")
    return np.unpackbits(next(read_arrays(path))[1], axis=2).astype(np.bool_)
