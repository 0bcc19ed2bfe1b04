"""Where shards are built: here, or by Dask workers on this machine, in Slurm jobs, or at a
scheduler that runs already.

Every connection is TLS, with certificates made for the one run, or given for a scheduler of
somebody else's; whoever can talk to a Dask scheduler can run code as its user, so a plain
connection is accepted on loopback alone. Knows how workers come to be and come back; refuses to
know what they are asked to do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compute.devices import visible_gpus
from storage.base.errors import SettingsError, SystemicFault
from tasks.config.cluster_settings import ADDRESS, LOCAL, LOOPBACK, SLURM, ClusterSettings
from tasks.config.slurm_settings import PLAIN_PATH, SlurmSettings

CONNECT_SECONDS = 20.0
"""How long a scheduler may take to answer."""
DASK: Mapping[str, Any] = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.dashboard.status.task-stream-length": 1,
    # No pages are served: the ports stay, but there is nothing behind them.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # A worker that is gone for so long is given up with all that would restart it, and another is
    # asked for. A nanny needs seconds to start a process anew, and half a minute where many start
    # at once.
    "distributed.deploy.lost-worker-timeout": "90s",
}
"""What we ask of Dask, whatever a user's own Dask configuration says."""


@dataclass(frozen=True)
class DaskCluster:
    """A Dask client with workers behind it."""

    client: Any
    device: str
    """The device a worker is to use, in the worker's own words."""
    replace_lost: Callable[[], None]
    """Ask for workers in place of those that are gone for good."""


@contextlib.contextmanager
def connect(
    cluster: ClusterSettings, slurm: SlurmSettings, *, device: str, folder: Path, shards: int
) -> Iterator[DaskCluster]:
    """Workers for so many shards, while the block runs.

    `folder` is where jobs of a cluster find their certificates and leave their logs. Raises
    SystemicFault where nothing answers.
    """
    import dask
    from distributed import Client

    with dask.config.set(
        {**DASK, "distributed.scheduler.allowed-failures": cluster.allowed_failures}
    ):
        make = {LOCAL: _local, SLURM: _slurm, ADDRESS: _at_address}[cluster.kind]
        with make(cluster, slurm, device, folder, shards) as (
            place,
            options,
            seen_device,
            replace_lost,
        ):
            try:
                client = Client(place, set_as_default=False, **options)
            except (OSError, TimeoutError) as error:
                raise SystemicFault(
                    f"no Dask scheduler answers at {cluster.address or place}: {error}. Check the address and, for "
                    "tls://, that both sides use certificates of the same authority; then run the same command again."
                ) from error
            with client:
                yield DaskCluster(client, seen_device, replace_lost)


_Place = tuple[Any, dict[str, Any], str, Callable[[], None]]


@contextlib.contextmanager
def _local(
    cluster: ClusterSettings, _: SlurmSettings, device: str, folder: Path, shards: int
) -> Iterator[_Place]:
    """One process for each GPU, or for some cores each, all of this machine and heard on loopback
    alone.
    """
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    gpus = visible_gpus(device)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    count = min(shards, cluster.workers or len(gpus) or max(1, cores // cluster.cores_per_worker))
    common = {
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",
        "security": Security.temporary(),
        "protocol": "tls://",
    }

    def worker(number: int) -> dict[str, Any]:
        threads = str(
            max(cluster.cores_per_worker, cores // count) if gpus else cluster.cores_per_worker
        )
        environment = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads
        )
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        # What stops a shard travels back and is told once, by us; Dask's own log would tell it
        # again.
        limits = {
            "nthreads": 1,
            "memory_limit": 0,
            "dashboard": False,
            "silence_logs": logging.CRITICAL,
        }
        return {"cls": Nanny, "options": {**common, **limits, "env": environment}}

    with SpecCluster(
        workers={number: worker(number) for number in range(count)},
        scheduler={"cls": Scheduler, "options": {**common, "port": 0, "dashboard": False}},
        security=common["security"],
        silence_logs=logging.CRITICAL,
        name="video-highlights",
    ) as workers:
        yield workers, {}, "cuda" if gpus else device, lambda: workers.scale(count)


@contextlib.contextmanager
def _slurm(
    _: ClusterSettings, slurm: SlurmSettings, device: str, folder: Path, shards: int
) -> Iterator[_Place]:
    """One Slurm job for each worker, the scheduler in this process."""
    from dask_jobqueue.slurm import SLURMCluster
    from distributed.security import Security

    if not PLAIN_PATH.fullmatch(str(folder.absolute())):
        raise SettingsError(
            (
                f"the script of a Slurm job cannot hold {folder.absolute()}; choose a [data] root without blanks",
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
        # A job that ends is replaced by us; one that Slurm requeues as well would be one too many.
        job_extra_directives=[*slurm.directives, *slurm.gpu_directives, "--no-requeue"],
        job_script_prologue=[*slurm.prologue_lines, f"export OMP_NUM_THREADS={slurm.cores}"],
        worker_extra_args=[
            *slurm.lifetime_options,
            "--no-dashboard",
            "--dashboard-address",
            f"{LOOPBACK}:0",
        ],
        log_directory=str(folder.absolute()),
        shared_temp_directory=str(folder.absolute()),
        local_directory=slurm.scratch or str(folder.absolute() / "dask"),
        security=Security.temporary(),
        protocol="tls://",
        scheduler_options={"dashboard_address": f"{LOOPBACK}:0", "dashboard": False},
        silence_logs=logging.CRITICAL,
    ) as workers:
        workers.scale(jobs=jobs)
        # A job that ended is no longer among the workers, but still in the plan: scaling anew opens
        # another.
        yield workers, {}, device, lambda: workers.scale(jobs=jobs)


@contextlib.contextmanager
def _at_address(
    cluster: ClusterSettings, _: SlurmSettings, device: str, folder: Path, shards: int
) -> Iterator[_Place]:
    """A scheduler that somebody started, with the workers it has."""
    from distributed.security import Security

    tls = Security(
        tls_ca_file=cluster.tls_ca_file,
        tls_client_cert=cluster.tls_cert,
        tls_client_key=cluster.tls_key,
        require_encryption=True,
    )
    options = {"security": tls} if cluster.address.startswith("tls://") else {}
    yield cluster.address, {**options, "timeout": CONNECT_SECONDS}, device, lambda: None
