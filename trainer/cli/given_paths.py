"""Are the checkpoint and the catalog that a command names there at all? Asked before seconds of
imports.

Refuses to know what is in them.
"""

from __future__ import annotations

from pathlib import Path

from storage.base.errors import LookupFailed
from storage.base.paths import Layout


def check_given_paths(model: Path, folder: Path) -> None:
    """Raise LookupFailed unless `model` is a file and `folder` holds a catalog."""
    if not model.is_file():
        what = "is a folder" if model.is_dir() else "is not there"
        raise LookupFailed(
            f"no checkpoint {model}: it {what}; give a model.safetensors, or train one with `python -m trainer fit`"
        )
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    if not layout.catalog_file.is_file():
        raise LookupFailed(f"no catalog in {folder}; give ROOT/<catalog>, such as data/sample")
