"""Tests of `trainer.base`."""
