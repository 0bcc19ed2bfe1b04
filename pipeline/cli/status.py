"""`python -m pipeline status ROOT/CATALOG`: how far a build is, for a person or for Prometheus."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cli.arguments import local_folder
from pipeline.cli.exit_codes import SUCCESS
from pipeline.diagnostics.status import catalog_progress, format_progress, prometheus_text
from storage.files.atomic_write import publish


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("folder", type=local_folder, help="ROOT/<catalog>")
    parser.add_argument(
        "--prometheus",
        type=Path,
        metavar="FILE",
        help="also write metrics for node_exporter's textfile collector; "
        "the file is replaced whole",
    )
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    progress = catalog_progress(options.folder)
    if options.prometheus is not None:
        publish(options.prometheus.absolute(), prometheus_text(progress).encode(), replace=True)
    print("\n".join(format_progress(progress)))
    return SUCCESS
