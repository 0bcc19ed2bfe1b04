"""Runs one small program to its end, returns its output, and kills it if it hangs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.child_processes.exit_status import killed_from_outside
from pipeline.child_processes.hang_watch import HangWatch, Hung, TimeLimits

LOOK_SECONDS = 0.2


def run_to_end(command: Sequence[str], folder: Path, limits: TimeLimits) -> tuple[int, bytes]:
    """Exit status and standard output of a program that is run in `folder`.

    If another process killed or stopped it, it is run once more. Raises Hung; OSError if it cannot
    be started.
    """
    try:
        status, output = _run(command, folder, limits)
    except Hung as hung:
        if not hung.from_outside:
            raise
        # The cause was outside, so it may not happen again.
        return _run(command, folder, limits)
    if killed_from_outside(status):
        return _run(command, folder, limits)
    return status, output


def _run(command: Sequence[str], folder: Path, limits: TimeLimits) -> tuple[int, bytes]:
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        list(command), stdin=silent, stdout=subprocess.PIPE, stderr=silent, cwd=folder
    ) as process:
        watch = HangWatch(process.pid)
        watch.start(limits)
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    watch.check()
                else:
                    return process.returncode, output
        finally:
            process.kill()  # does nothing if it has ended
