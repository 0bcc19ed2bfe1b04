"""Selects the device that computes, and how many threads compute on a CPU."""

from __future__ import annotations

import os

from storage.base.errors import SettingsError


def resolve_device(device: str) -> str:
    """`auto` becomes the first GPU if there is one, else the CPU.

    Raises SettingsError for a GPU that is not there.
    """
    # Decided without importing torch.
    if device == "cpu":
        return device
    import torch  # takes seconds to import; only runs with networks need it

    if device.startswith("cuda") and not torch.cuda.is_available():
        problem = f"[extract] device is {device}, but torch finds no GPU here; use auto or cpu"
        raise SettingsError((problem,))
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that `device` selects, as CUDA_VISIBLE_DEVICES names them; empty for `cpu`."""
    import torch

    if device == "cpu":
        return ()
    names = _names_from_environment() or [str(n) for n in range(torch.cuda.device_count())]
    _, _, chosen = device.partition(":")
    if not chosen:
        return tuple(names[: torch.cuda.device_count()])
    # `cuda:1` is the second of the visible GPUs.
    number = int(chosen)
    return tuple(names[number : number + 1])


def _names_from_environment() -> list[str]:
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [name.strip() for name in names if name.strip()]


def row_threads(*, has_networks: bool) -> int:
    """Threads that compute rows: as many as torch has; without networks, one per usable core.

    Dask's workers and Slurm's jobs get their share of the machine in OMP_NUM_THREADS, which torch
    reads too.
    """
    if has_networks:
        import torch  # costs 2 s of CPU; a build without networks should not pay for it

        return torch.get_num_threads()
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(stated)) if stated.isdecimal() else len(os.sched_getaffinity(0))
