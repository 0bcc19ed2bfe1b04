"""Small builds through the real command: the embedded sample's videos with pictures alone, in
seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from storage.features.manifest import ManifestEntry
from storage.features.part_reader import PartReader
from storage.features.store import FeatureStore
from storage.maintenance.audit import audit
from tests.conftest import REPOSITORY
from tests.support.luigi_server import run_luigi

QUICK = (
    "--extract-extractors",
    "frames",
    "--frames-frames-per-second",
    "1",
    "--extract-device",
    "cpu",
)
"""No network, no torch: a build is downloading, decoding and writing."""


def command(task: str, *options: str) -> list[str]:
    return [
        str(Path(sys.executable).with_name("luigi")),
        "--module",
        "tasks",
        task,
        *QUICK,
        *options,
    ]


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("BuildFeatures", "--catalog", "sample", *options),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@dataclass(frozen=True)
class Built:
    folder: Path
    exit_code: int
    output: str

    @property
    def store(self) -> Path:
        return self.folder / "data" / "sample"

    @property
    def digest(self) -> str:
        return FeatureStore(self.store)["frames"].digest()

    @property
    def entries(self) -> dict[str, ManifestEntry]:
        """Every id of every sidecar. An id that two shards claim would be counted once: the audit
        looks for that.
        """
        manifests = FeatureStore(self.store)["frames"].manifests.values()
        return {
            video_id: entry
            for manifest in manifests
            for video_id, entry in manifest.entries.items()
        }

    def faults(self) -> list[str]:
        """What a deep audit finds."""
        variants = audit(self.store, deep=True)
        return [str(finding) for one in variants for finding in one.findings] + [
            one.equation() for one in variants if not one.adds_up
        ]

    def ids_in_parts(self) -> list[str]:
        """Every id of every part on disk, as often as it is there."""
        parts = sorted(self.store.glob("features/*/*.h5"))
        return sorted(video_id for part in parts for video_id in PartReader(part).ids())

    def left_behind(self) -> list[Path]:
        """Leases, notes of videos in hand, spools and temporaries: what a finished build does not
        need.
        """
        files = [path for path in self.store.rglob("*") if path.is_file()]
        return [
            path
            for path in files
            if "leases" in path.parts or "spool" in path.parts or path.name.startswith(".")
        ]


def finish(running: subprocess.Popen[str], folder: Path) -> Built:
    output = running.communicate()[0]
    return Built(folder, running.returncode, output)


def build(folder: Path, *options: str, **environment: str) -> Built:
    return finish(start(folder, *options, **environment), folder)


def build_in_fork(folder: Path, *options: str) -> Built:
    """The same by the server of commands, which saves the imports."""
    words = command("BuildFeatures", "--catalog", "sample", *options)[1:]
    done = run_luigi(folder, *words)
    return Built(folder, done.returncode, done.stdout + done.stderr)


def with_catalog_of(drawn: Built, folder: Path) -> Path:
    """A data root with the sample drawn and catalogued, and nothing built."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(
        drawn.store, folder / "data" / "sample", ignore=shutil.ignore_patterns("features", "report")
    )
    return folder
