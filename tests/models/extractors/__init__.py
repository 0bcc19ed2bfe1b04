"""Tests of `models.extractors`."""
