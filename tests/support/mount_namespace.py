"""A mount namespace of one's own: a test may fill and lock small real disks in it, and leaves no
mount behind.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

_ENTER = ("unshare", "--user", "--map-root-user", "--mount")


@cache
def refusal() -> str:
    """Why this machine gives no such namespace with a tmpfs in it; empty if it does."""
    try:
        command = [*_ENTER, "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unshare does not run: {error.strerror}"
    return done.stderr.strip() if done.returncode else ""


def need_namespace() -> None:
    """Skip the test, loudly, where no small disk can be made."""
    if refusal():
        pytest.skip(
            f"LOUD SKIP: no mount namespace here ({refusal()}); nothing is proved about small real disks"
        )


def in_namespace(script: str, words: list[str], **environment: str | Path) -> str:
    """All that a shell script said, run inside with `words` as its arguments. Its mounts are gone
    when it ends.
    """
    calm = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        **{name: str(value) for name, value in environment.items()},
    }
    command = [*_ENTER, "bash", "-c", script, "bash", *words]
    done = subprocess.run(
        command,
        env=calm,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
