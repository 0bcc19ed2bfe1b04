"""Tests of `tasks.reporting`."""
