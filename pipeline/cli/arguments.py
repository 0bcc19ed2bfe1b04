"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from storage.base.paths import folder_faults


def local_folder(text: str) -> Path:
    """A folder that a command may write to; it need not exist.

    Addresses such as s3://bucket are rejected.
    """
    faults = folder_faults(text)
    if faults:
        raise argparse.ArgumentTypeError(faults[0])
    return Path(text)
