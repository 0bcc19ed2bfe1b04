"""How a run is executed: shards on one machine, a Dask cluster or Slurm, with progress and
shutdown.
"""
