"""What we keep, where it lies, and how it is written whole or not at all.

Knows numpy and HDF5. Refuses to know networks, decoders, schedulers and the web.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.features.store import FeatureStore

__all__ = ["FeatureStore"]


def __getattr__(name: str) -> object:
    # Loaded when asked for: most commands import storage's nouns only, and HDF5 takes longer to load than they run.
    if name != "FeatureStore":
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    from storage.features.store import FeatureStore

    return FeatureStore
