"""Settings of the section [slurm]."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

WARNING_SECONDS = 120
"""Slurm tells an element of an array so long before it ends it."""


MAX_GRACE_SECONDS = 300


_NAMES = re.compile(r"[\w.,@+-]*")


PLAIN_PATH = re.compile(r"[\w./$@+-]*")


_DIRECTIVE = re.compile(r"--[a-z][a-z-]*(=[\w.,:@/+*%()\[\]&|-]+)?")


_TIME = re.compile(r"(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?|(\d+)(?::(\d+))?(?::(\d+))?)")


@dataclass(frozen=True)
class SlurmSettings:
    """The section `[slurm]`: one job, which is a Dask worker or an element of an array."""

    jobs: int = 4
    partition: str = ""
    account: str = ""
    time: str = "1-00:00:00"
    cores: int = 4
    memory_gigabytes: int = 16
    gpus: int = 0
    interface: str = ""
    scratch: str = ""
    directives: tuple[str, ...] = ()
    prologue: str = ""
    requeues: int = 100

    def faults(self) -> Iterator[str]:
        """One sentence for each thing that is wrong: everything here ends up in a script that a
        shell reads.
        """
        for name in ("partition", "account", "interface"):
            if not _NAMES.fullmatch(getattr(self, name)):
                yield f"{name} holds letters, digits and . , @ + - _; got {getattr(self, name)!r}"
        if not _TIME.fullmatch(self.time) or self.time_seconds < 60:
            yield f"time is at least a minute, written as Slurm writes it, like 1-00:00:00 or 90; got {self.time!r}"
        if (
            min(self.jobs, self.cores, self.memory_gigabytes) < 1
            or min(self.gpus, self.requeues) < 0
        ):
            got = (
                f"{self.jobs}, {self.cores}, {self.memory_gigabytes}, {self.gpus}, {self.requeues}"
            )
            yield f"jobs, cores and memory_gigabytes are 1 or more, gpus and requeues 0 or more; got {got}"
        if self.gpus > 1:
            yield f"gpus is 0 or 1, since a worker uses one; ask for more jobs instead; got {self.gpus}"
        for directive in self.directives:
            if not _DIRECTIVE.fullmatch(directive):
                yield f"directives are options of sbatch like --constraint=a100, --exclusive; got {directive!r}"
        if not PLAIN_PATH.fullmatch(self.scratch):
            yield f"scratch is a folder on the node like /scratch or $TMPDIR, without blanks; got {self.scratch!r}"
        if not self.prologue.isprintable():
            yield "prologue is one line of shell, like `module load cuda`"

    @property
    def time_seconds(self) -> int:
        """The wall time in seconds; 0 if it cannot be read."""
        match = _TIME.fullmatch(self.time)
        if match is None:
            return 0
        if match[1] is not None:
            days, hours, minutes, seconds = (int(match[place] or 0) for place in (1, 2, 3, 4))
        elif match[7] is not None:
            days, (hours, minutes, seconds) = 0, (int(match[place]) for place in (5, 6, 7))
        else:
            days, hours, (minutes, seconds) = 0, 0, (int(match[place] or 0) for place in (5, 6))
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def lifetime_options(self) -> list[str]:
        """A worker ends before its job would, not all at once, and lets go of its shard while there
        is time.
        """
        grace = min(MAX_GRACE_SECONDS, self.time_seconds // 4)
        return [
            "--lifetime",
            f"{self.time_seconds - grace}s",
            "--lifetime-stagger",
            f"{grace // 2}s",
        ]

    @property
    def gpu_directives(self) -> list[str]:
        """The GPU of a job, as an option of sbatch."""
        return [f"--gres=gpu:{self.gpus}"] if self.gpus else []

    @property
    def prologue_lines(self) -> list[str]:
        """What a job runs first."""
        return [self.prologue] if self.prologue else []
