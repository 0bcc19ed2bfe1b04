"""Environments with the wheel and the libraries of some extras only.

Libraries are links to those of the environment that runs the tests, so that making one takes a
second. Those of other extras are really absent: neither imports nor metadata find them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tests.conftest import REPOSITORY


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and a working folder."""

    environment: Path
    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder; what it prints is kept."""
        program, *arguments = command
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )


@functools.cache
def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, in `folder`."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(root: Path, wheel: Path, extras: Sequence[str] | None) -> Installed:
    """An environment below `root`; `extras` None: all libraries that are installed here."""
    environment = root / "environment"
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    if extras is None:
        # Dependencies come from this environment; its own editable install is not processed there.
        (packages / "zz_dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    else:
        _link_libraries(packages, extras)
    for name, code in {
        "video-highlights": "from video_highlights import main\nsys.exit(main())\n",
        "luigi": "from luigi.cmdline import luigi_run\nsys.exit(luigi_run())\n",
    }.items():
        script = environment / "bin" / name
        script.write_text(f"#!{environment}/bin/python\nimport sys\n{code}")
        script.chmod(0o755)
    folder = root / "project"
    folder.mkdir()
    return Installed(environment, folder)


def _link_libraries(packages: Path, extras: Sequence[str]) -> None:
    for name in sorted(_required("video-highlights", frozenset(extras))):
        distribution = importlib.metadata.distribution(name)
        tops = {Path(str(file)).parts[0] for file in distribution.files or ()}
        for top in tops - {"..", "__pycache__"}:
            target = Path(str(distribution.locate_file(top)))
            link = packages / top
            if not link.exists() and target.exists():
                link.symlink_to(target)


def _required(name: str, extras: frozenset[str]) -> frozenset[str]:
    """The distributions that one needs, and those that they need, without itself."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        owner, wanted = waiting.pop()
        for requirement in _requirements(owner, wanted):
            needed = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if needed not in found and _is_installed(needed):
                found.add(needed)
                waiting.append((needed, frozenset(requirement.extras)))
    return frozenset(found)


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
