"""Tests of `storage.catalog`."""
