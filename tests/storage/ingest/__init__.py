"""Tests of `storage.ingest`."""
