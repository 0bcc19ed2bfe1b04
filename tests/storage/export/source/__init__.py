"""Tests of `storage.export.source`."""
