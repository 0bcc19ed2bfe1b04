"""Tests of `trainer.losses`."""
