"""Tests of `trainer.synthetic`."""
