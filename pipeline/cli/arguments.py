"""Types of command-line arguments that several commands share. Refuses to know what a command does
with them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from storage.base.paths import folder_faults


def local_folder(text: str) -> Path:
    """A folder that a command may write to, whether it exists or not. Addresses such as s3://bucket
    are refused.
    """
    faults = folder_faults(text)
    if faults:
        raise argparse.ArgumentTypeError(faults[0])
    return Path(text)
