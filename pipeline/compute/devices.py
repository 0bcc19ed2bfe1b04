"""Which device computes: the one asked for, or the best there is."""

from __future__ import annotations

import os

from storage.base.errors import SettingsError


def resolve_device(device: str) -> str:
    """`auto` becomes the first GPU if there is one, else the CPU. SettingsError for a GPU that is
    not there.
    """
    if device == "cpu":
        return device
    import torch  # seconds to import: only what runs networks pays

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(
            (f"[extract] device is {device}, but torch finds no GPU here; use auto or cpu",)
        )
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that `device` speaks of, as CUDA_VISIBLE_DEVICES names them; empty for `cpu`, or
    where there is none.
    """
    import torch

    if device == "cpu":
        return ()
    named = [
        name.strip()
        for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if name.strip()
    ]
    names = named or [str(number) for number in range(torch.cuda.device_count())]
    _, _, chosen = device.partition(":")
    return (
        tuple(names[: torch.cuda.device_count()])
        if not chosen
        else tuple(names[int(chosen) : int(chosen) + 1])
    )


def row_threads(*, has_networks: bool) -> int:
    """Threads that compute rows, at least 1: torch's own number, or without networks the cores this
    process may use.

    Dask's workers and Slurm's jobs name their share of the machine in OMP_NUM_THREADS, which torch
    reads too.
    """
    if has_networks:
        import torch  # takes seconds and 2 s of CPU, so a build without networks must not pay for it

        return torch.get_num_threads()
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(stated)) if stated.isdecimal() else len(os.sched_getaffinity(0))
