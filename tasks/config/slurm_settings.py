"""Settings of the section [slurm]."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass

WARNING_SECONDS = 120
"""Slurm warns an element of an array so many seconds before it ends it."""
MAX_GRACE_SECONDS = 300
MIN_TIME_SECONDS = 60
PLAIN_PATH = re.compile(r"[\w./$@+-]*")
_NAMES = re.compile(r"[\w.,@+-]*")
_DIRECTIVE = re.compile(r"--[a-z][a-z-]*(=[\w.,:@/+*%()\[\]&|-]+)?")
_TIME_FORMS = (
    # days-hours:minutes:seconds, the last two optional
    (re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?"), (86_400, 3_600, 60, 1)),
    # hours:minutes:seconds
    (re.compile(r"(\d+):(\d+):(\d+)"), (3_600, 60, 1)),
    # minutes:seconds, the last optional
    (re.compile(r"(\d+)(?::(\d+))?"), (60, 1)),
)
"""How Slurm writes a time: the form, and the seconds of each of its numbers."""


@dataclass(frozen=True)
class SlurmSettings:
    """The section `[slurm]`: one job, which is a Dask worker or an element of an array."""

    jobs: int = 4
    """Workers of kind = slurm. A job that ends is replaced until all is done."""
    partition: str = ""
    """Empty: Slurm's default."""
    account: str = ""
    """Empty: Slurm's default."""
    time: str = "1-00:00:00"
    """Wall time as Slurm writes it. Workers leave some minutes earlier; the next job continues."""
    cores: int = 4
    """Cores of a job."""
    memory_gigabytes: int = 16
    """Memory of a job."""
    gpus: int = 0
    """GPUs of a job, 0 or 1."""
    interface: str = ""
    """The network interface that reaches this machine from the nodes, such as ib0. Empty: Dask
    chooses.
    """
    scratch: str = ""
    """A fast folder of the node for Dask's own small files, such as /tmp. Empty: the data root."""
    directives: tuple[str, ...] = ()
    """Further options of sbatch, such as --constraint=a100, --qos=long."""
    prologue: str = ""
    """One line of shell that a job runs first, such as: module load cuda"""
    requeues: int = 100
    """How often an element of an array that was stopped goes back into the queue."""

    def faults(self) -> Iterator[str]:
        """One sentence for each wrong setting.

        The checks are strict because a shell reads the script that holds these values.
        """
        yield from self._number_faults()
        yield from self._text_faults()
        if self.time_seconds < MIN_TIME_SECONDS:
            yield (
                "time must be at least a minute, written as Slurm writes it, like 1-00:00:00 or "
                f"90; got {self.time!r}"
            )

    def _number_faults(self) -> Iterator[str]:
        for name in ("jobs", "cores", "memory_gigabytes"):
            if getattr(self, name) < 1:
                yield f"{name} must be 1 or more; got {getattr(self, name)}"
        if self.requeues < 0:
            yield f"requeues must be 0 or more; got {self.requeues}"
        if self.gpus not in (0, 1):
            yield (
                "gpus must be 0 or 1, since a worker uses one; ask for more jobs instead; "
                f"got {self.gpus}"
            )

    def _text_faults(self) -> Iterator[str]:
        for name in ("partition", "account", "interface"):
            value = getattr(self, name)
            if not _NAMES.fullmatch(value):
                yield f"{name} may hold letters, digits and . , @ + - _; got {value!r}"
        for directive in self.directives:
            if not _DIRECTIVE.fullmatch(directive):
                yield (
                    "directives must be options of sbatch like --constraint=a100, --exclusive; "
                    f"got {directive!r}"
                )
        if not PLAIN_PATH.fullmatch(self.scratch):
            yield (
                "scratch must be a folder on the node like /scratch or $TMPDIR, without blanks; "
                f"got {self.scratch!r}"
            )
        if not self.prologue.isprintable():
            yield "prologue must be one line of shell, like `module load cuda`"

    @property
    def time_seconds(self) -> int:
        """The wall time in seconds; 0 if it is not written as Slurm writes it."""
        for form, units in _TIME_FORMS:
            match = form.fullmatch(self.time)
            if match is not None:
                numbers = [int(number or 0) for number in match.groups()]
                return sum(map(operator.mul, numbers, units))
        return 0

    @property
    def lifetime_options(self) -> list[str]:
        """Options of a Dask worker that end it before its job, so that it can release its shard.

        The workers end at different times.
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
        """Lines of shell that a job runs first."""
        return [self.prologue] if self.prologue else []
