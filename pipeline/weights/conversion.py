"""Converts a weights file from outside to a safetensors file, in a child process with limits.

    FOLDER/<sha256 of the original>.safetensors   its tensors, bit by bit
    FOLDER/<sha256 of the original>.json          their names and origin; written last

The original is hashed before a byte of it is parsed, and parsed only in the child.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.child_processes.exit_status import fault_if_stopped
from pipeline.child_processes.project_root import PROJECT_ROOT
from pipeline.weights.conversion_worker import REFUSED
from storage.base.errors import IntegrityError, SystemicFault, UntrustedFile
from storage.base.fingerprint import readable_json
from storage.files.atomic_write import publish, size_and_sha256
from storage.files.os_errors import disk_fault

FORMAT = "video-highlights converted weights"
FORMAT_VERSION = 1
MAX_SECONDS = 600
BASE_MEMORY_BYTES = 512 * 1024 * 1024
MEMORY_FACTOR = 4
"""A file is in memory as its bytes, its blocks, and the tensors made of them."""
MAX_FACTS_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Pin:
    """What a file must be before it is opened."""

    sha256: str
    size_bytes: int | None = None
    advice: str = "fetch it again"
    """What to do if a file is another one."""

    def check(self, path: Path, size_bytes: int, sha256: str) -> None:
        """Raise IntegrityError unless these are the pinned bytes."""
        if self.size_bytes is not None and size_bytes != self.size_bytes:
            raise IntegrityError(
                path,
                f"has {size_bytes:,} bytes, it is pinned to {self.size_bytes:,}; {self.advice}",
            )
        if sha256 != self.sha256:
            raise IntegrityError(
                path, f"has the sha256 {sha256}, it is pinned to {self.sha256}; {self.advice}"
            )


def convert_once(source: Path, folder: Path, pin: Pin | None = None) -> Path:
    """The safetensors file with the tensors of `source`, made now if it is not in `folder` yet.

    Raises:
        IntegrityError: `source` is not the pinned file. Nothing of it was parsed.
        UntrustedFile: it asks for more than tensors, or is damaged.
        SystemicFault: the child process cannot run.
    """
    with _open_source(source) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if pin is not None:
            pin.check(source, size_bytes, sha256)
        target = folder / f"{sha256}.safetensors"
        if not is_converted(target):
            # The child reads the very file that was hashed, not its path.
            file.seek(0)
            _convert(source, file, target, {"sha256": sha256, "size_bytes": size_bytes})
    return target


def facts_file(target: Path) -> Path:
    """The JSON beside a converted file."""
    return target.with_suffix(".json")


def facts_of(target: Path) -> dict[str, Any]:
    """The facts of a converted file: source, table of tensors, modules. Raises IntegrityError."""
    try:
        facts = json.loads(facts_file(target).read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(
            facts_file(target), f"cannot be read: {error}. Delete it and run again."
        ) from error
    is_object = isinstance(facts, dict)
    if not is_object or (facts.get("format"), facts.get("version")) != (FORMAT, FORMAT_VERSION):
        raise IntegrityError(
            facts_file(target), "does not describe converted weights. Delete it and run again."
        )
    result: dict[str, Any] = facts
    return result


def is_converted(target: Path) -> bool:
    """Whether a file was converted before; raises IntegrityError if it changed since."""
    if not facts_file(target).exists() or not target.exists():
        return False
    size_bytes, sha256 = size_and_sha256(target)
    if facts_of(target).get("converted") != {"sha256": sha256, "size_bytes": size_bytes}:
        raise IntegrityError(
            target, f"was altered since it was made. Delete it and {facts_file(target).name}."
        )
    return True


@contextmanager
def _open_source(source: Path) -> Iterator[io.FileIO]:
    try:
        with source.open("rb", buffering=0) as file:
            yield file
    except IsADirectoryError as error:
        raise UntrustedFile(source, "is a folder, expected a weights file") from error
    except OSError as error:
        raise disk_fault(error, source) from error


def _convert(source: Path, file: io.FileIO, target: Path, origin: dict[str, Any]) -> None:
    max_memory_bytes = MEMORY_FACTOR * int(origin["size_bytes"]) + BASE_MEMORY_BYTES
    with tempfile.TemporaryDirectory() as empty_folder:
        process = _start(file, empty_folder, max_memory_bytes)
        watchdog = threading.Timer(MAX_SECONDS, process.kill)
        watchdog.start()
        try:
            output = _ChildOutput(source, process)
            facts = output.read_facts()
            publish(target, output.blocks(), replace=True)
        finally:
            # Also after success: no process may be left behind.
            watchdog.cancel()
            process.kill()
            process.communicate()
    size_bytes, sha256 = size_and_sha256(target)
    content = {
        **facts,
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "source": origin,
        "converted": {"sha256": sha256, "size_bytes": size_bytes},
    }
    # Written last: only a file with facts counts as converted.
    publish(facts_file(target), readable_json(content), replace=True)


def _start(file: io.FileIO, empty_folder: str, max_memory_bytes: int) -> subprocess.Popen[bytes]:
    """Start the child, with an environment of its own.

    It finds our packages through the folder it starts in, and leaves that folder at once.
    """
    module = "pipeline.weights.conversion_worker"
    limits = [str(max_memory_bytes), str(MAX_SECONDS), empty_folder]
    passed_on = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    # Threads of numpy would need memory beyond the limit.
    own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *limits],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # not a file: the child may not write to files
            cwd=PROJECT_ROOT,
            env={**passed_on, **own},
        )
    except OSError as error:
        raise SystemicFault(
            f"cannot start {sys.executable} to read weights: {error.strerror}"
        ) from error


class _ChildOutput:
    """Reads the output of the child. It counts only if the child ends with success."""

    def __init__(self, source: Path, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("the child was started without a pipe")
        self._source = source
        self._process = process
        self._stdout = process.stdout
        self._stderr = process.stderr

    def read_facts(self) -> dict[str, Any]:
        """The first part of the output: its length, and JSON."""
        head = self._stdout.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        # A hostile file controls the child, so its numbers are not trusted.
        text = self._stdout.read(size) if size <= MAX_FACTS_BYTES else b""
        is_complete = size > 0 and len(text) == size
        if not is_complete:
            self._raise_failure()
        facts: dict[str, Any] = json.loads(text)
        # Which sandbox layers were active depends on the machine, and the facts must not.
        facts.pop("layers", None)
        return facts

    def blocks(self) -> Iterator[bytes]:
        """The converted file; raises at its end if the child failed."""
        while block := self._stdout.read(_BLOCK_BYTES):
            yield block
        if self._process.wait() != 0:
            self._raise_failure()

    def _raise_failure(self) -> None:
        output = self._stderr.read()
        status = self._process.wait()
        message = output[-2000:].decode("utf-8", "replace").strip()
        if status == REFUSED:
            raise UntrustedFile(self._source, f"is refused, nothing in it was run: {message}")
        if fault := fault_if_stopped(status):
            raise fault
        if status < 0 or "MemoryError" in message:
            raise UntrustedFile(
                self._source,
                f"is refused: reading it needs more than it may take ({status}). {message}",
            )
        raise SystemicFault(f"the child that reads weights failed ({status}): {message}")
