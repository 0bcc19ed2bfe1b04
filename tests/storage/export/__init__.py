"""Tests of `storage.export`."""
