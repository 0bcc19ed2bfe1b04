"""Tests of `models.weights`."""
