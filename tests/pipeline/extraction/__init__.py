"""Tests of `pipeline.extraction`."""
