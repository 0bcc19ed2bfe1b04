"""`python -m trainer table [NAME FOLDER]`: a paper's table, published beside measured; without a
name, which there are.

Trains what is missing, one network after the other in this process; large ones can be trained
before, by `torchrun -m trainer fit`, and are then found. Refuses to know how.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from storage.base.errors import SettingsError
from storage.catalog.catalog import read_catalog
from trainer.cli.fit import add_choices, check_counts
from trainer.paper_tables.domain_cells import check_changes
from trainer.paper_tables.published import load_table, table_names
from trainer.paper_tables.render import render_table, save_report
from trainer.paper_tables.reproduce import TableRequest, reproduce


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "table", nargs="?", metavar="NAME", help=f"one of: {', '.join(table_names())}"
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="ROOT/<catalog>, with features"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="networks of each system, seeds 0 to N - 1",
    )
    parser.add_argument(
        "--trained-on",
        type=Path,
        metavar="FOLDER",
        help="another dataset's, for rows trained there",
    )
    parser.add_argument(
        "--among",
        type=Path,
        metavar="FILE",
        help="judge these users or videos alone: ids, one a line",
    )
    parser.add_argument("--format", default="text", choices=("text", "markdown", "csv"))
    add_choices(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, which is kept under `FOLDER/report/` too."""
    if options.table is None:
        yield from (f"{name:<16} {load_table(name).title}" for name in table_names())
        return
    check_counts(options)
    if options.folder is None:
        raise SettingsError(
            (f"table {options.table} needs a FOLDER: a catalog's, such as data/phd2",)
        )
    table, changes = load_table(options.table), tuple(options.changes)
    check_changes(table, changes, small=options.small)
    among = None if options.among is None else _ids(options.among, options.folder)
    order = TableRequest(
        table, options.folder, options.seeds, options.small, changes, options.trained_on, among
    )
    rows = reproduce(order, device=options.device, workers=options.workers)
    save_report(order, rows)
    yield from render_table(order, rows, options.format)


def _ids(file: Path, folder: Path) -> frozenset[str]:
    """What the file lists; a catalog that does not know all of it is asked about something else
    than was meant.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            (f"--among {file} cannot be read as ids, one a line: {error}",)
        ) from error
    among = frozenset(line.strip() for line in lines if line.strip())
    catalog = read_catalog(folder)
    strangers = (
        among
        - {user.user_id for user in catalog.users}
        - {video.video_id for video in catalog.videos}
    )
    if strangers or not among:
        problem = (
            f"it has no {', '.join(sorted(strangers)[:5])}" if strangers else "the file is empty"
        )
        raise SettingsError(
            (f"--among {file} lists {len(among)} users or videos of {catalog.name}: {problem}",)
        )
    return among
