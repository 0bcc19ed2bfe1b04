"""A weights file from outside → a safetensors file of ours, once, read by a limited child.

    FOLDER/<sha256 of the original>.safetensors   its tensors, bit by bit FOLDER/<sha256 of the
    original>.json          what they are and where they came from; written last

Knows nothing about networks. The original is hashed before a byte of it is parsed, and parsed
nowhere but in the child.
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
    """What a file must be. Nothing else under its name is opened."""

    sha256: str
    size_bytes: int | None = None
    advice: str = "fetch it again"
    """What to do about a file that is another one."""

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

    Raises IntegrityError before anything is parsed if `source` is not the pinned file,
    UntrustedFile if it asks for more than tensors or is damaged, SystemicFault if the child cannot
    run.
    """
    with _opened(source) as file:
        size_bytes, sha256 = (
            os.fstat(file.fileno()).st_size,
            hashlib.file_digest(file, "sha256").hexdigest(),
        )
        if pin is not None:
            pin.check(source, size_bytes, sha256)
        target = folder / f"{sha256}.safetensors"
        if not is_converted(target):
            file.seek(0)
            _convert(source, file, target, {"sha256": sha256, "size_bytes": size_bytes})
    return target


def facts_file(target: Path) -> Path:
    """The JSON beside a converted file."""
    return target.with_suffix(".json")


def facts_of(target: Path) -> dict[str, Any]:
    """What is known of a converted file: source, table of tensors, modules. Raises
    IntegrityError.
    """
    try:
        facts = json.loads(facts_file(target).read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(
            facts_file(target), f"cannot be read: {error}. Delete it and run again."
        ) from error
    if not isinstance(facts, dict) or (facts.get("format"), facts.get("version")) != (
        FORMAT,
        FORMAT_VERSION,
    ):
        raise IntegrityError(
            facts_file(target), "is no account of converted weights. Delete it and run again."
        )
    return facts


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
def _opened(source: Path) -> Iterator[io.FileIO]:
    try:
        with source.open("rb", buffering=0) as file:
            yield file
    except IsADirectoryError as error:
        raise UntrustedFile(source, "is a folder, expected a weights file") from error
    except OSError as error:
        raise disk_fault(error, source) from error


def _convert(source: Path, file: io.FileIO, target: Path, origin: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as empty:
        process = _start(file, empty, MEMORY_FACTOR * int(origin["size_bytes"]) + BASE_MEMORY_BYTES)
        watchdog = threading.Timer(MAX_SECONDS, process.kill)
        watchdog.start()
        try:
            child = _Child(source, process)
            facts = child.facts()
            publish(target, child.rest(), replace=True)
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()
    size_bytes, sha256 = size_and_sha256(target)
    made = {"sha256": sha256, "size_bytes": size_bytes}
    account = {
        **facts,
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "source": origin,
        "converted": made,
    }
    publish(facts_file(target), readable_json(account), replace=True)


def _start(file: io.FileIO, empty: str, max_memory_bytes: int) -> subprocess.Popen[bytes]:
    """The environment is closed; our packages are found from the folder it starts in, which it
    leaves at once.
    """
    command = [
        sys.executable,
        "-m",
        "pipeline.weights.conversion_worker",
        str(max_memory_bytes),
        str(MAX_SECONDS),
        empty,
    ]
    passed_on = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    calm = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.Popen(
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # a file would be beyond its limits
            cwd=PROJECT_ROOT,
            env={**passed_on, **calm},
        )
    except OSError as error:
        raise SystemicFault(
            f"cannot start {sys.executable} to read weights: {error.strerror}"
        ) from error


class _Child:
    """What the child says. A child that ends early makes nothing of what it said count."""

    def __init__(self, source: Path, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("the child was started without a pipe")
        self._source = source
        self._process = process
        self._out = process.stdout
        self._words = process.stderr

    def facts(self) -> dict[str, Any]:
        """The first thing it says."""
        head = self._out.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        text = self._out.read(size) if size <= MAX_FACTS_BYTES else b""
        if not size or len(text) != size:
            self._explain()
        facts: dict[str, Any] = json.loads(text)
        facts.pop("layers", None)
        return facts

    def rest(self) -> Iterator[bytes]:
        """The converted file; raises at its end if the child failed."""
        while block := self._out.read(_BLOCK_BYTES):
            yield block
        if self._process.wait() != 0:
            self._explain()

    def _explain(self) -> None:
        said = self._words.read()
        code = self._process.wait()
        words = said[-2000:].decode("utf-8", "replace").strip()
        if code == REFUSED:
            raise UntrustedFile(self._source, f"is refused, nothing in it was run: {words}")
        if fault := fault_if_stopped(code):
            raise fault
        if code < 0 or "MemoryError" in words:
            raise UntrustedFile(
                self._source,
                f"is refused: reading it needs more than it may take ({code}). {words}",
            )
        raise SystemicFault(f"the child that reads weights failed ({code}): {words}")
