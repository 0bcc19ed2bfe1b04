"""Processing of one video or one shard: download, decode, extract; no scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.file_features import extract_features

__all__ = ["extract_features"]


def __getattr__(name: str) -> object:
    # Loaded on first use: commands import this package, and need no networks or decoders for it.
    # The message that Python itself gives, so that `hasattr` and typos behave as usual.
    if name != "extract_features":
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from pipeline.file_features import extract_features

    return extract_features
