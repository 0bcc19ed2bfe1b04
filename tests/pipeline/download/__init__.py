"""Tests of `pipeline.download`."""
