"""Tests of `pipeline.compute`."""
