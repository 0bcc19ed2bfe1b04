"""Tests of `pipeline.weights`."""
