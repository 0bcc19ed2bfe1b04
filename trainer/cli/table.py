"""`python -m trainer table [NAME FOLDER]`: reproduces a paper's table, published beside measured.

Without a name, it lists the tables. Missing networks are trained one after the other in this
process. Large ones can be trained before with `torchrun -m trainer fit`, and are then used.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from storage.base.errors import SettingsError
from storage.catalog.catalog import read_catalog
from trainer.cli.options import add_seeds, add_training, check_training
from trainer.paper_tables.domain_cells import check_changes
from trainer.paper_tables.published import load_table, table_names
from trainer.paper_tables.render import render_table, save_report
from trainer.paper_tables.reproduce import TableRequest, reproduce


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "table", nargs="?", metavar="NAME", help=f"one of: {', '.join(table_names())}"
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="ROOT/<catalog>, with features"
    )
    add_seeds(parser, 1, "networks of each system, with seeds 0 to N - 1")
    parser.add_argument(
        "--trained-on",
        type=Path,
        metavar="FOLDER",
        help="the catalog of another dataset, for rows that are trained on it",
    )
    parser.add_argument(
        "--among",
        type=Path,
        metavar="FILE",
        help="evaluate only these users or videos: a file with one id per line",
    )
    parser.add_argument("--format", default="text", choices=("text", "markdown", "csv"))
    add_training(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Reproduce the table and save it in `FOLDER/report/`; yields its lines."""
    if options.table is None:
        for name in table_names():
            yield f"{name:<16} {load_table(name).title}"
        return
    check_training(options)
    if options.folder is None:
        raise SettingsError(
            (f"table {options.table} needs a FOLDER: that of a catalog, such as data/phd2",)
        )
    table, changes = load_table(options.table), tuple(options.changes)
    check_changes(table, changes, small=options.small)
    among = None if options.among is None else _read_ids(options.among, options.folder)
    request = TableRequest(
        table, options.folder, options.seeds, options.small, changes, options.trained_on, among
    )
    rows = reproduce(request, device=options.device, workers=options.workers)
    save_report(request, rows)
    yield from render_table(request, rows, options.format)


def _read_ids(file: Path, folder: Path) -> frozenset[str]:
    """The IDs in the file. Raises SettingsError if the catalog does not have all of them."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            (f"--among {file} cannot be read as one id per line: {error}",)
        ) from error
    ids = frozenset(line.strip() for line in lines if line.strip())
    catalog = read_catalog(folder)
    known = {user.user_id for user in catalog.users} | {video.video_id for video in catalog.videos}
    unknown = sorted(ids - known)
    problem = ""
    if not ids:
        problem = "the file is empty"
    elif unknown:
        problem = f"it has no {', '.join(unknown[:5])}"
    # An unknown ID is likely a file for another catalog, so the others are not evaluated either.
    if problem:
        raise SettingsError(
            (f"--among {file} lists {len(ids)} users or videos of {catalog.name}: {problem}",)
        )
    return ids
