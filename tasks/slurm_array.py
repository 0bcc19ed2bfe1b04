"""`WriteSlurmArray`: builds a catalog's shards as an array of Slurm jobs.

It needs no process on a login node. It writes a script and submits nothing; each element of the
array runs BuildFeatures with the settings of this command.
"""

from __future__ import annotations

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
from tasks.config.settings import load_settings
from tasks.config.settings_file import VARIABLE, chosen_file
from tasks.execution import progress
from tasks.execution.catalogs import load_catalog
from tasks.execution.extract_shard import shard_job
from tasks.execution.retries import outdated_videos, request_outdated
from tasks.execution.slurm import array_script
from tasks.features import check_command, parse_shards

SCRIPT_FILE = "array.sh"


class WriteSlurmArray(luigi.Task):
    """Writes a script for `sbatch` that builds the incomplete shards of a catalog.

    Never complete: each run writes a script for the shards that are left then.
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
        exit_codes.check_before_start(self._check)

    def complete(self) -> bool:
        """False: see the class."""
        return False

    def run(self) -> Iterator[Any]:
        """Build the catalog, then write the script."""
        # Elements of the array start together; they must not all build the catalog.
        yield BuildCatalog(catalog=self.catalog)
        settings = load_settings(self.catalog)
        catalog = load_catalog(settings.layout)
        chosen = parse_shards(self.shards, catalog.shard_count)
        request_outdated(settings, outdated_videos(settings, chosen))
        left = [shard for shard in chosen if not shard_job(settings, catalog, shard).is_complete()]
        if not left:
            progress.print_line(
                f"{self.catalog}: all of these {len(chosen)} shards are complete; "
                "there is nothing to submit"
            )
            return
        logs = settings.layout.cluster.absolute()
        script = array_script(
            settings.slurm,
            _build_command(self.catalog),
            left,
            self.shards_per_job,
            folder=str(Path.cwd()),
            logs=str(logs),
        )
        publish(settings.layout.cluster / SCRIPT_FILE, script.encode(), replace=True)
        jobs = -(-len(left) // self.shards_per_job)
        script_file = shlex.quote(str(logs / SCRIPT_FILE))
        progress.print_line(f"{self.catalog}: {len(left)} shards in {jobs} jobs")
        progress.print_line(f"sbatch {script_file}")

    def _check(self) -> None:
        check_command(self.catalog, self.shards, ())
        if self.shards_per_job < 1:
            raise SettingsError((f"--shards-per-job must be 1 or more, got {self.shards_per_job}",))
        if "@" in _options_on_command_line().get("--download-proxy", ""):
            raise SettingsError(
                (
                    "a script must not hold the password of a proxy: "
                    "write [download] proxy in workflows.cfg",
                )
            )


def _build_command(catalog: str) -> list[str]:
    """The command that builds here, with the settings of the present command line."""
    config = chosen_file(sys.argv[1:])
    environment = ["env", f"{VARIABLE}={config.absolute()}"] if config is not None else []
    luigi_program = str(Path(sys.executable).with_name("luigi"))
    command = [*environment, luigi_program, "--module", "tasks", "BuildFeatures"]
    command += ["--catalog", catalog]
    # Inside a job, the shards are built by the job itself.
    options = _options_on_command_line() | {"--cluster-kind": "inline"}
    for option, value in options.items():
        command += [option, value]
    return command


def _options_on_command_line() -> dict[str, str]:
    """Settings on the command line: option → value as typed."""
    parser = CmdlineParser.get_instance()
    if parser is None:
        return {}
    values = vars(parser.known_args)
    options = {}
    for section, kind in SECTIONS.items():
        for key, _ in kind.get_params():
            value = values.get(f"{section}_{key}")
            if value is not None:
                options[f"--{section}-{key}".replace("_", "-")] = value
    return options
