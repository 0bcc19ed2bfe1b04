"""`python -m pipeline doctor`: checks whether this machine is fit for a run."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from pipeline.cli.arguments import local_folder
from pipeline.cli.exit_codes import FAILURE, SUCCESS
from pipeline.diagnostics.doctor import Level, examine_machine
from pipeline.download.access.source import YOUTUBE, SourceSettings
from storage.base.errors import SettingsError


def _doctor(options: argparse.Namespace) -> int:
    source = SourceSettings(options.source)
    faults = source.faults()
    if faults:
        raise SettingsError(tuple(faults))
    exit_code = SUCCESS
    for check in examine_machine(source, options.data_root, date.today()):
        print(check, flush=True)
        if check.level is Level.FAIL:
            exit_code = FAILURE
    return exit_code


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--data-root",
        type=local_folder,
        default=Path("data"),
        help="folder for all data, as in [data] root",
    )
    parser.add_argument(
        "--source", default=YOUTUBE, help="where videos come from, as in [download] source"
    )
    parser.set_defaults(run=_doctor)
