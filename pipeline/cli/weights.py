"""`python -m pipeline weights`: lists, fetches, imports and forgets weight files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from models.weights.published import PUBLISHED_WEIGHTS, PublishedWeights
from pipeline.cli.arguments import local_folder
from pipeline.cli.exit_codes import FAILURE, SUCCESS
from pipeline.weights.weights_folder import WeightsFolder, describe_weights, files_to_import
from storage.base.errors import IntegrityError, SettingsError

_MEGABYTE = 1_000_000
_REPORT_BYTES = 50 * _MEGABYTE
NAME_HELP = "as in `weights list`"


def _list_weights(options: argparse.Namespace) -> int:
    print("\n".join(describe_weights(WeightsFolder(options.weights_root))))
    return SUCCESS


def _fetch_weights(options: argparse.Namespace) -> int:
    _check_name(options.name)
    # Before anything is downloaded.
    _require_acceptance(PUBLISHED_WEIGHTS[options.name], accepted=options.accept_licence)
    file = WeightsFolder(options.weights_root).fetch(
        options.name, _DownloadProgress(), options.origin
    )
    print(f"{options.name} is at {file}")
    return SUCCESS


def _import_weights(options: argparse.Namespace) -> int:
    folder, code = WeightsFolder(options.weights_root), SUCCESS
    for name, path in files_to_import(options.file, options.name):
        _require_acceptance(PUBLISHED_WEIGHTS[name], accepted=options.accept_licence)
        try:
            print(f"{name} is at {folder.add_file(name, path, 'imported')}")
        except IntegrityError as error:  # other files of a folder may be right
            print(error, file=sys.stderr)
            code = FAILURE
    return code


def _forget_weights(options: argparse.Namespace) -> int:
    _check_name(options.name)
    file = WeightsFolder(options.weights_root).forget(options.name)
    print(
        f"{options.name} is not pinned any more; {file} is not used until it or another file is "
        "imported or fetched"
    )
    return SUCCESS


def _check_name(name: str) -> None:
    if name not in PUBLISHED_WEIGHTS:
        known = ", ".join(PUBLISHED_WEIGHTS)
        raise SettingsError((f"no weights are called {name!r}; there are {known}",))


def _require_acceptance(weights: PublishedWeights, *, accepted: bool) -> None:
    """Print the licence. Raises SettingsError if it must be accepted first and is not."""
    print(f"{weights.name}: {weights.licence}\ncite: {weights.citation}", flush=True)
    if accepted or not weights.asks_first:
        return
    # A batch job has no one to answer.
    if sys.stdin.isatty():
        answer = input("Do you accept this licence? [yes/no] ")
        if answer.strip().lower() == "yes":
            return
    problem = f"{weights.name} is not taken before its licence is accepted: add --accept-licence"
    raise SettingsError((problem,))


class _DownloadProgress:
    """Prints a line every 50 MB: a line also reads well in a batch log."""

    def __init__(self) -> None:
        self._next = _REPORT_BYTES

    def __call__(self, so_far: int, total: int | None) -> None:
        if so_far < self._next:
            return
        self._next += _REPORT_BYTES
        megabytes = str(total // _MEGABYTE) if total else "?"
        print(f"{so_far // _MEGABYTE} of {megabytes} MB", flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands about weights."""
    commands = parser.add_subparsers(required=True, metavar="list|fetch|import|forget")
    _add_command(
        commands, "list", _list_weights, "list all weights, those that are here, and the licences"
    )
    fetch = _add_command(
        commands, "fetch", _fetch_weights, "download published weights, or continue a download"
    )
    _add_licence_option(fetch)
    fetch.add_argument("name", help=NAME_HELP)
    fetch.add_argument(
        "--origin", help="a mirror's address of the same file; it is checked like the original"
    )
    importing = _add_command(
        commands,
        "import",
        _import_weights,
        "take a file, or a folder of files, from another source",
    )
    _add_licence_option(importing)
    importing.add_argument("file", type=Path)
    importing.add_argument("--name", default="", help=f"{NAME_HELP}; default: that of the file")
    forget = _add_command(commands, "forget", _forget_weights, "undo the pin of a wrong file")
    forget.add_argument("name", help=NAME_HELP)


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description)
    parser.add_argument(
        "--weights-root",
        type=local_folder,
        default=Path("data/weights"),
        help="folder of the weights, as [data] root plus /weights",
    )
    parser.set_defaults(run=run)
    return parser


def _add_licence_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-licence", action="store_true", help="accept it without being asked"
    )
