"""Dask workers: on this machine, in Slurm jobs, or at a scheduler that runs already.

Every connection is TLS, with certificates made for one run, or given by the user for an existing
scheduler. Everybody who reaches a Dask scheduler can run code as its user, so a plain connection is
accepted on loopback only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.compute.devices import visible_gpus
from storage.base.errors import SettingsError, SystemicFault
from tasks.config.cluster_settings import ADDRESS, LOCAL, LOOPBACK, SLURM, ClusterSettings
from tasks.config.slurm_settings import PLAIN_PATH, SlurmSettings
from tasks.execution.progress import print_line

CONNECT_SECONDS = 20.0
"""How long a scheduler may take to answer."""
DASK: Mapping[str, Any] = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.dashboard.status.task-stream-length": 1,
    # No pages are served unless `[cluster] dashboard` says so: the ports stay, but there is nothing
    # behind them.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # After this time Dask gives up a lost worker, and another one is asked for. A nanny needs
    # seconds to restart a process, and half a minute where many start at once.
    "distributed.deploy.lost-worker-timeout": "90s",
}
"""Dask settings that a user's own Dask configuration must not change."""
DASHBOARD: Mapping[str, Any] = {
    "distributed.scheduler.dashboard.status.task-stream-length": 1000,
    # Only pages that read. Dask's own default is the same with a proxy to the workers' pages.
    "distributed.scheduler.http.routes": [
        "distributed.http.scheduler.info",
        "distributed.http.scheduler.json",
        "distributed.http.health",
        "distributed.http.statics",
    ],
}
"""Dask settings besides, where a dashboard is served."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class DaskCluster:
    """A Dask client with workers behind it."""

    client: Any
    device: str
    """The device of a worker, as the worker names it."""
    replace_lost: Callable[[], None]
    """Starts workers in place of those that are lost for good."""


@dataclass(frozen=True)
class _Endpoint:
    """Where a Dask client finds its scheduler, and what is known of the workers there."""

    address: Any
    """An address, or a cluster object of Dask."""
    device: str
    replace_lost: Callable[[], None]
    client_options: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def connect(
    cluster: ClusterSettings, slurm: SlurmSettings, *, device: str, folder: Path, shards: int
) -> Iterator[DaskCluster]:
    """Workers for so many shards, while the block runs.

    In `folder`, jobs of a cluster find their certificates and write their logs. Raises
    SystemicFault if no scheduler answers.
    """
    import dask
    from distributed import Client

    if cluster.kind == LOCAL:
        workers = _local(cluster, device, shards)
    elif cluster.kind == SLURM:
        workers = _slurm(slurm, device, folder, shards, has_dashboard=cluster.dashboard)
    else:
        workers = _at_address(cluster, device)
    changed = {**DASK, **(DASHBOARD if cluster.dashboard else {})}
    changed |= {"distributed.scheduler.allowed-failures": cluster.allowed_failures}
    with dask.config.set(changed), workers as endpoint:
        try:
            client = Client(endpoint.address, set_as_default=False, **endpoint.client_options)
        except (OSError, TimeoutError) as error:
            raise SystemicFault(
                f"no Dask scheduler answers at {cluster.address or endpoint.address}: {error}. "
                "Check the address and, for tls://, that both sides use certificates of the same "
                "authority; then run the same command again."
            ) from error
        with client:
            if cluster.dashboard and cluster.kind != ADDRESS:
                print_line(f"Dask's dashboard: {client.dashboard_link}")
            yield DaskCluster(client, endpoint.device, endpoint.replace_lost)


@contextlib.contextmanager
def _local(cluster: ClusterSettings, device: str, shards: int) -> Iterator[_Endpoint]:
    """One process for each GPU, or for some cores each, of this machine, on loopback only."""
    from distributed import Scheduler, SpecCluster
    from distributed.security import Security

    gpus = visible_gpus(device)
    cores = _available_cores()
    wanted = cluster.workers or len(gpus) or max(1, cores // cluster.cores_per_worker)
    count = min(shards, wanted)
    threads = cluster.cores_per_worker
    if gpus:
        # Decoding for a GPU needs cores: each worker gets its share of all of them.
        threads = max(threads, cores // count)
    common = {
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",
        "security": Security.temporary(),
        "protocol": "tls://",
    }
    with SpecCluster(
        workers={
            number: _local_worker(common, threads, gpus[number % len(gpus)] if gpus else None)
            for number in range(count)
        },
        scheduler={
            "cls": Scheduler,
            "options": {**common, "port": 0, "dashboard": cluster.dashboard},
        },
        security=common["security"],
        silence_logs=logging.CRITICAL,
        name="video-highlights",
    ) as workers:
        yield _Endpoint(workers, "cuda" if gpus else device, lambda: workers.scale(count))


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _local_worker(common: Mapping[str, Any], threads: int, gpu: str | None) -> dict[str, Any]:
    """Dask's description of one worker process with so many threads of arithmetic."""
    from distributed import Nanny

    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    options = {
        "nthreads": 1,
        "memory_limit": 0,
        "dashboard": False,
        # An error that stops a shard is printed once, by this program; Dask's log would repeat it.
        "silence_logs": logging.CRITICAL,
    }
    return {"cls": Nanny, "options": {**common, **options, "env": environment}}


@contextlib.contextmanager
def _slurm(
    slurm: SlurmSettings, device: str, folder: Path, shards: int, *, has_dashboard: bool
) -> Iterator[_Endpoint]:
    """One Slurm job for each worker; the scheduler runs in this process."""
    from dask_jobqueue.slurm import SLURMCluster
    from distributed.security import Security

    absolute = str(folder.absolute())
    if not PLAIN_PATH.fullmatch(absolute):
        raise SettingsError(
            (
                f"the script of a Slurm job cannot hold the path {absolute}; "
                "choose a [data] root without blanks",
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    jobs = min(shards, slurm.jobs)
    with SLURMCluster(
        cores=1,
        processes=1,
        memory=f"{slurm.memory_gigabytes}GB",
        job_cpu=slurm.cores,
        job_mem=f"{slurm.memory_gigabytes}G",
        walltime=slurm.time,
        queue=slurm.partition or None,
        account=slurm.account or None,
        interface=slurm.interface or None,
        job_name="video-highlights",
        python=sys.executable,
        # This program replaces a job that ends; if Slurm requeued it too, there would be one too
        # many.
        job_extra_directives=[*slurm.directives, *slurm.gpu_directives, "--no-requeue"],
        job_script_prologue=[*slurm.prologue_lines, f"export OMP_NUM_THREADS={slurm.cores}"],
        worker_extra_args=[
            *slurm.lifetime_options,
            "--no-dashboard",
            "--dashboard-address",
            f"{LOOPBACK}:0",
        ],
        log_directory=absolute,
        shared_temp_directory=absolute,
        local_directory=slurm.scratch or str(folder.absolute() / "dask"),
        security=Security.temporary(),
        protocol="tls://",
        scheduler_options={"dashboard_address": f"{LOOPBACK}:0", "dashboard": has_dashboard},
        silence_logs=logging.CRITICAL,
    ) as workers:
        workers.scale(jobs=jobs)
        # A job that ended is not among the workers any more, but still in Dask's plan: scaling
        # again starts another one.
        yield _Endpoint(workers, device, lambda: workers.scale(jobs=jobs))


@contextlib.contextmanager
def _at_address(cluster: ClusterSettings, device: str) -> Iterator[_Endpoint]:
    """A scheduler that runs already, with the workers it has."""
    from distributed.security import Security

    options: dict[str, Any] = {"timeout": CONNECT_SECONDS}
    if cluster.address.startswith("tls://"):
        options["security"] = Security(
            tls_ca_file=cluster.tls_ca_file,
            tls_client_cert=cluster.tls_cert,
            tls_client_key=cluster.tls_key,
            require_encryption=True,
        )
    yield _Endpoint(cluster.address, device, lambda: None, options)
