"""Asks an author's code for its numbers, through `run_reference.py` in a process of its own; and
holds ours to them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

SCRIPT = Path(__file__).with_name("run_reference.py")
FOLDER = "HIGHLIGHTS_REFERENCES"
"""Environment variable: a folder of checkouts, named c3d-pytorch and TASED-Net, for the tests that
run them.
"""

Arrays = dict[str, NDArray[Any]]


def checkout(name: str) -> Path:
    """Where an author's code lies; the test is skipped, loudly, where it does not."""
    folder = Path(os.environ.get(FOLDER, "")) / name
    if FOLDER not in os.environ or not folder.is_dir():
        pytest.skip(
            f"LOUD SKIP: set {FOLDER} to a folder that holds a checkout of {name}; nothing was compared here"
        )
    return folder


def ask(
    what: str,
    reference: Path,
    weights: Mapping[str, Tensor],
    frames: Sequence[Any],
    script: Path = SCRIPT,
    **more: Any,
) -> Arrays:
    """The reference's arrays for `(H, W, 3)` uint8 RGB frames, with `weights` saved as it loads
    them.
    """
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        torch.save(dict(weights), at / "weights.pt")
        np.savez(at / "frames.npz", frames=np.stack(frames), **more)
        files = [at / "weights.pt", at / "frames.npz", at / "out.npz"]
        command = [sys.executable, script, what, reference.absolute(), *files]
        subprocess.run(list(map(str, command)), cwd=at, check=True)
        with np.load(at / "out.npz") as out:
            return dict(out)


def relative_error(found: Any, expected: Any) -> float:
    """Largest absolute error over largest absolute value."""
    expected = np.asarray(expected, np.float64)
    assert np.shape(found) == expected.shape
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max())
