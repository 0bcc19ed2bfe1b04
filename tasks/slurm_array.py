"""`WriteSlurmArray`: a catalog's shards as an array of Slurm jobs, for those who want no process on
a login node.

Writes a script and submits nothing. Each element runs BuildFeatures with the settings of this
command.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser

from storage.base.errors import SettingsError
from storage.files.atomic_write import publish
from tasks.build_catalog import BuildCatalog
from tasks.config import exit_codes
from tasks.config.luigi_sections import SECTIONS
from tasks.config.settings import load
from tasks.execution.catalogs import catalog_of
from tasks.execution.extract_shard import shard_job
from tasks.execution.retries import outdated_videos, request_again
from tasks.execution.slurm import array_script
from tasks.features import check_command, parse_shards
from tasks.reporting import run_report

FILE = "array.sh"


class WriteSlurmArray(luigi.Task):
    """A script for `sbatch` that builds the shards of a catalog that are not complete yet.

    Never complete by itself: asked again, it writes what is left now.
    """

    catalog = luigi.Parameter()
    shards = luigi.Parameter(
        default="", description="only these shards, like 3-7,12; all by default"
    )
    shards_per_job = luigi.IntParameter(
        default=1, description="so many shards for each element of the array"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        exit_codes.before_anything_starts(self._check)

    def complete(self) -> bool:
        """Always False: see the class."""
        return False

    def run(self) -> Iterator[Any]:
        """Catalog, then the script; elements that start together must not all make the catalog."""
        yield BuildCatalog(catalog=self.catalog)
        settings = load(self.catalog)
        catalog = catalog_of(settings)
        asked = parse_shards(self.shards, catalog.shard_count)
        request_again(settings, outdated_videos(settings, asked))
        left = [shard for shard in asked if not shard_job(settings, catalog, shard).is_complete()]
        if not left:
            run_report.say(
                f"{self.catalog}: all of these {len(asked)} shards are complete; there is nothing to submit"
            )
            return
        logs = settings.layout.cluster.absolute()
        script = array_script(
            settings.slurm,
            _command(self.catalog),
            left,
            self.shards_per_job,
            folder=str(Path.cwd()),
            logs=str(logs),
        )
        publish(settings.layout.cluster / FILE, script.encode(), replace=True)
        jobs = -(-len(left) // self.shards_per_job)
        run_report.say(
            f"{self.catalog}: {len(left)} shards in {jobs} jobs\nsbatch {shlex.quote(str(logs / FILE))}"
        )

    def _check(self) -> None:
        check_command(self.catalog, self.shards, ())
        if self.shards_per_job < 1:
            raise SettingsError((f"--shards-per-job is 1 or more, got {self.shards_per_job}",))
        if "@" in _given().get("--download-proxy", ""):
            raise SettingsError(
                ("a password does not belong in a script: write [download] proxy in workflows.cfg",)
            )


def _command(catalog: str) -> list[str]:
    """What a person would type to build here, with the settings given to this command."""
    config = os.environ.get("LUIGI_CONFIG_PATH")
    environment = ["env", f"LUIGI_CONFIG_PATH={Path(config).absolute()}"] if config else []
    given = [
        word
        for option, value in (_given() | {"--cluster-kind": "inline"}).items()
        for word in (option, value)
    ]
    luigi_program = str(Path(sys.executable).with_name("luigi"))
    return [
        *environment,
        luigi_program,
        "--module",
        "tasks",
        "BuildFeatures",
        "--catalog",
        catalog,
        *given,
    ]


def _given() -> dict[str, str]:
    """Settings given on the command line: option → value as typed."""
    parser = CmdlineParser.get_instance()
    values = vars(parser.known_args) if parser is not None else {}
    names = [(section, key) for section, kind in SECTIONS.items() for key, _ in kind.get_params()]
    found = {
        f"--{section}-{key}".replace("_", "-"): values.get(f"{section}_{key}")
        for section, key in names
    }
    return {option: value for option, value in found.items() if value is not None}
