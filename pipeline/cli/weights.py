"""`python -m pipeline weights`: list, fetch, import and forget weight files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.weights.published import PUBLISHED_WEIGHTS, PublishedWeights
from pipeline.cli.arguments import local_folder
from pipeline.cli.exit_codes import FIT, UNFIT
from pipeline.weights.weights_folder import WeightsFolder, describe_weights, files_to_import
from storage.base.errors import IntegrityError, SettingsError

_MEGABYTE = 1_000_000


def _list_weights(options: argparse.Namespace) -> int:
    print("\n".join(describe_weights(WeightsFolder(options.weights_root))))
    return FIT


def _fetch_weights(options: argparse.Namespace) -> int:
    _known(options.name)
    _accept(PUBLISHED_WEIGHTS[options.name], accepted=options.accept_licence)
    file = WeightsFolder(options.weights_root).fetch(options.name, _Progress(), options.origin)
    print(f"{options.name} is at {file}")
    return FIT


def _import_weights(options: argparse.Namespace) -> int:
    folder, code = WeightsFolder(options.weights_root), FIT
    for name, path in files_to_import(options.file, options.name):
        _accept(PUBLISHED_WEIGHTS[name], accepted=options.accept_licence)
        try:
            print(f"{name} is at {folder.add_file(name, path, 'imported')}")
        except IntegrityError as error:  # the others of a folder may be right
            print(error, file=sys.stderr)
            code = UNFIT
    return code


def _forget_weights(options: argparse.Namespace) -> int:
    _known(options.name)
    file = WeightsFolder(options.weights_root).forget(options.name)
    print(
        f"{options.name} is pinned no more; {file} is not used until it or another file is imported or fetched"
    )
    return FIT


def _known(name: str) -> None:
    if name not in PUBLISHED_WEIGHTS:
        raise SettingsError(
            (f"no weights are called {name!r}; there are {', '.join(PUBLISHED_WEIGHTS)}",)
        )


def _accept(row: PublishedWeights, *, accepted: bool) -> None:
    """Tell the licence; go on only if it asks for nothing, or was accepted."""
    print(f"{row.name}: {row.licence}\ncite: {row.citation}", flush=True)
    if not row.asks_first or accepted:
        return
    if (
        sys.stdin.isatty()
        and input("Do you accept this licence? [yes/no] ").strip().lower() == "yes"
    ):
        return
    raise SettingsError(
        (f"{row.name} is not taken before its licence is accepted: add --accept-licence",)
    )


class _Progress:
    """A line every 50 MB."""

    def __init__(self) -> None:
        self._next = 50 * _MEGABYTE

    def __call__(self, so_far: int, total: int | None) -> None:
        if so_far >= self._next:
            self._next += 50 * _MEGABYTE
            print(f"{so_far // _MEGABYTE} of {total // _MEGABYTE if total else '?'} MB", flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command about weights."""
    commands = parser.add_subparsers(required=True, metavar="list|fetch|import|forget")
    parsers = {
        "list": (_list_weights, "what there is, what is here, and the licences"),
        "fetch": (_fetch_weights, "download published weights, or continue a download"),
        "import": (_import_weights, "take a file, or a folder of files, that came another way"),
        "forget": (_forget_weights, "undo the pin of a wrong file"),
    }
    for command, (run, told) in parsers.items():
        command_parser = commands.add_parser(command, help=told)
        root = "[data] root, and /weights"
        command_parser.add_argument(
            "--weights-root", type=local_folder, default=Path("data/weights"), help=root
        )
        command_parser.set_defaults(run=run)
        if command == "forget":
            command_parser.add_argument("name", help="as `weights list` has it")
        if command in ("list", "forget"):
            continue
        command_parser.add_argument(
            "--accept-licence", action="store_true", help="instead of answering yes"
        )
        if command == "fetch":
            command_parser.add_argument("name", help="as `weights list` has it")
            command_parser.add_argument(
                "--origin",
                help="a mirror's address of the same file; it is checked like the original",
            )
        else:
            command_parser.add_argument("file", type=Path)
            command_parser.add_argument(
                "--name", default="", help="as `weights list` has it; by default the file's own"
            )
