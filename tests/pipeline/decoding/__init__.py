"""Tests of `pipeline.decoding`."""
