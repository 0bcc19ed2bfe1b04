"""Tests of `trainer.paper_tables`."""
