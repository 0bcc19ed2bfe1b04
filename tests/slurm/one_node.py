"""A Slurm cluster of one node on this machine, in a folder of its own: munged, slurmctld, slurmd,
gone afterwards.

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. The daemons run with a
configuration, a key, sockets, ports and state of their own, so a Slurm that the machine may have is
not touched. As a script, it starts one and prints what to export: `python -m tests.slurm.one_node
FOLDER` (it ends with Ctrl-C).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client munge"
READY_SECONDS = 60.0

CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
MinJobAge=600
OverTimeLimit=0
MailProg=/bin/true
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


def missing() -> str:
    """What this machine lacks for it; empty if nothing."""
    if os.geteuid() != 0:
        return "it needs root, since slurmd starts jobs for users"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return f"{', '.join(absent)} not found: apt-get install {PACKAGES}" if absent else ""


@dataclass
class Slurm:
    """A running cluster."""

    folder: Path
    environment: dict[str, str]
    """What a command needs to speak to it."""
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def jobs(self) -> dict[str, str]:
        """Every job that waits or runs: number (of an array, with its element) → state."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def last_words(self) -> str:
        """The ends of the daemons' logs."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)


@contextlib.contextmanager
def one_node(folder: Path, cpus: int = 2) -> Iterator[Slurm]:
    """A cluster whose node is this machine, while the block runs. Raises RuntimeError if it does
    not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged insists on folders that others cannot write to
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    ports = dict(zip(("ctld_port", "slurmd_port"), _free_ports(2), strict=True))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, cpus=cpus, memory=memory, **ports))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    environment = {
        **os.environ,
        "SLURM_CONF": str(config),
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    slurm = Slurm(folder, environment)
    try:
        files = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
        _start(
            slurm,
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={key}",
            *files,
        )
        _until(lambda: (folder / "munge.socket").exists(), slurm)
        _start(slurm, "slurmctld", "-D", "-f", str(config))
        _start(slurm, "slurmd", "-D", "-f", str(config), "-N", host)
        _until(lambda: _is_idle(slurm), slurm)
        yield slurm
    finally:
        with contextlib.suppress(RuntimeError, OSError):
            slurm.ask("scancel", "--user=root")
            deadline = time.monotonic() + 15
            while slurm.jobs() and time.monotonic() < deadline:
                time.sleep(0.3)
        for daemon in reversed(slurm.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(slurm.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _start(slurm: Slurm, *command: str) -> None:
    with (slurm.folder / f"{command[0]}.out.log").open("wb") as log:
        slurm.daemons.append(
            subprocess.Popen(
                command,
                env=slurm.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        )


def _is_idle(slurm: Slurm) -> bool:
    try:
        return slurm.ask("sinfo", "--noheader", "--format=%T") == "idle"
    except RuntimeError:
        return False


def _until(ready: Callable[[], bool], slurm: Slurm) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        dead = [daemon.args for daemon in slurm.daemons if daemon.poll() is not None]
        if dead or time.monotonic() > deadline:
            raise RuntimeError(f"Slurm does not come up; ended: {dead}\n{slurm.last_words()}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    with one_node(Path(sys.argv[1]).absolute()) as up:
        sys.stdout.write(f"export SLURM_CONF={up.environment['SLURM_CONF']}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
