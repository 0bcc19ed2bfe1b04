"""Writes `c3d.json`: what DavideA's network gives for formula weights and a formula clip. Run it
from the repository:

`python -m tests.models.goldens.make_c3d REFERENCE`, with REFERENCE a checkout of
DavideA/c3d-pytorch at `COMMIT`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from models.extractors.c3d.network import LAYOUTS
from tests.models.goldens.formula import frames, state_dict
from tests.models.goldens.reference import ask

COMMIT = "1111ccf0de77cf1ba9f1027f7f065e889fc97169"
STEP = 128
"""Every so many values of an array are kept."""
CLIP = (16, 90, 120)
"""Frames, height, width."""


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    arrays = ask("c3d", Path(sys.argv[1]), state_dict(LAYOUTS[0].shapes), frames(*CLIP))
    values = {
        name: [float(f"{value:.7g}") for value in array[0, ::STEP]]
        for name, array in sorted(arrays.items())
    }
    largest = {name: float(f"{abs(array).max():.7g}") for name, array in sorted(arrays.items())}
    golden = {
        "reference": "DavideA/c3d-pytorch",
        "commit": COMMIT,
        "step": STEP,
        "largest": largest,
        "values": values,
    }
    Path(__file__).with_name("c3d.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
