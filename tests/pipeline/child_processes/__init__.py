"""Tests of `pipeline.child_processes`."""
