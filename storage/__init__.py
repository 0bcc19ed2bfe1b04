"""The feature store: its files, its readers and its writers. Depends on numpy and h5py only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.features.store import FeatureStore

__all__ = ["FeatureStore"]


def __getattr__(name: str) -> object:
    # Loaded on first use: most commands import only storage's data classes, and loading HDF5 takes
    # longer than they run.
    # The message that Python itself gives, so that `hasattr` and typos behave as usual.
    if name != "FeatureStore":
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    from storage.features.store import FeatureStore

    return FeatureStore
