"""Execution of a run: on one machine, on Dask or on Slurm, with progress and shutdown."""
