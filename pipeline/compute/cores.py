"""How many cores this process may compute rows on."""

from __future__ import annotations

import os


def row_threads(*, has_networks: bool) -> int:
    """Threads that compute rows, at least 1: torch's own number, or without networks the cores this process may use.

    Dask's workers and Slurm's jobs name their share of the machine in OMP_NUM_THREADS, which torch reads too.
    """
    if has_networks:
        import torch  # takes seconds and 2 s of CPU, so a build without networks must not pay for it

        return torch.get_num_threads()
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(stated)) if stated.isdecimal() else len(os.sched_getaffinity(0))
