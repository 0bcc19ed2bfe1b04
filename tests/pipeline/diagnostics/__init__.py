"""Tests of `pipeline.diagnostics`."""
