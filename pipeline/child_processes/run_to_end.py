"""Running one small program to its end, with its output, and giving up on it when it hangs.

Refuses to know what the output means.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.child_processes.exit_status import killed_from_outside
from pipeline.child_processes.hang_watch import HangWatch, Hung, TimeLimits

LOOK_SECONDS = 0.2


def run_to_end(command: Sequence[str], folder: Path, allowed: TimeLimits) -> tuple[int, bytes]:
    """Exit status and output of a program that is run in `folder`; what it says on stderr is
    dropped.

    One that somebody else killed or stopped is run once more. Raises Hung; OSError if it cannot be
    started.
    """
    try:
        status, output = _run(command, folder, allowed)
    except Hung as hung:
        if not hung.from_outside:
            raise
        return _run(command, folder, allowed)
    return _run(command, folder, allowed) if killed_from_outside(status) else (status, output)


def _run(command: Sequence[str], folder: Path, allowed: TimeLimits) -> tuple[int, bytes]:
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        list(command), stdin=silent, stdout=subprocess.PIPE, stderr=silent, cwd=folder
    ) as running:
        watch = HangWatch(running.pid)
        watch.start(allowed)
        try:
            while True:
                try:
                    output, _ = running.communicate(timeout=LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    watch.check()
                else:
                    return running.returncode, output
        finally:
            running.kill()  # nothing, where it has ended
