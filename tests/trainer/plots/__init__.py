"""Tests of `trainer.plots`."""
