"""Tests of `pipeline.media`."""
