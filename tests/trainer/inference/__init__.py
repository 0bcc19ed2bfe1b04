"""Tests of `trainer.inference`."""
