"""Tests of `pipeline.sampling`."""
