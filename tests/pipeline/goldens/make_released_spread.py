"""Write beside this file which frames the released set-learning code reads: `python
make_released_spread.py CHECKOUT`.

CHECKOUT holds ChrisAllenMing/Cross_Category_Video_Highlight at commit
abe3c2c0ee878dbf567a8f4f48a2d033b485e849. Its own `load_frames` is run on folders of pictures, each
of one grey that is its number; a place it fills with nothing is told from the others by poisoning
the memory it asks for. Run by hand; the tests read only the JSON file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

COMMIT = "abe3c2c0ee878dbf567a8f4f48a2d033b485e849"
CLIP_FRAMES = (41, 90, 91, 95, 99, 100, 101, 138)
POISON = -1.0


def read_by_reference(load_frames: Any, folder: Path, frames: int) -> list[int]:
    """The numbers of the frames in each of the 16 places; -1 where the code writes nothing."""
    for number in range(frames):
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), np.full((16, 16, 3), number, np.uint8))
    self = SimpleNamespace(clip_len=16, resize_height=16, resize_width=16)
    return [round(float(picture.mean())) for picture in load_frames(self, str(folder))]


def main() -> None:
    """Run the reference on every length."""
    sys.path.insert(0, sys.argv[1])
    from dataloaders import youtube_highlights_set as reference  # type: ignore[import-not-found]

    poisoned = SimpleNamespace(**vars(np))
    poisoned.empty = lambda shape, *rest: np.full(shape, POISON, *rest)
    reference.np = poisoned
    table = {}
    for frames in CLIP_FRAMES:
        with tempfile.TemporaryDirectory() as folder:
            found = read_by_reference(
                reference.YouTube_Highlights_Set.load_frames, Path(folder), frames
            )
            table[str(frames)] = found
    text = json.dumps({"commit": COMMIT, "frames_read": table}, indent=1) + "\n"
    Path(__file__).with_name("released_spread.json").write_text(text)


if __name__ == "__main__":
    main()
