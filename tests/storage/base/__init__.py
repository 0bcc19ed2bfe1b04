"""Tests of `storage.base`."""
