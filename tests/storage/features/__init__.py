"""Tests of `storage.features`."""
