"""Tests of `tasks.execution`."""
