"""`python -m pipeline doctor | weights | verify | rebase | forecast | bench`: look after what a run needs and
made.

Exit codes: 0 all is well (warnings included), 1 something would stop a run or spoil it, or differs, 2 wrong use,
4 a file or folder cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from models.weights.published import WEIGHTS, Weights
from pipeline.cli import bench, rebase
from pipeline.cli import forecast as forecast_command
from pipeline.cli.arguments import local_folder
from pipeline.diagnostics.doctor import Level, examine_machine
from pipeline.download.access.source import YOUTUBE, SourceSettings
from pipeline.weights.weights_folder import WeightsFolder, listed, names_in
from storage.base.errors import HighlightsError, IntegrityError, SettingsError
from storage.commands import run_and_exit

if TYPE_CHECKING:
    from pipeline.diagnostics.verify import Comparison

FIT, UNFIT, WRONG_USE = 0, 1, 2
_MEGABYTE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except SettingsError as error:
        print("\n".join(error.faults), file=sys.stderr)
        return WRONG_USE
    except HighlightsError as error:
        print(error, file=sys.stderr)
        return UNFIT
    return code


def _doctor(options: argparse.Namespace) -> int:
    source = SourceSettings(options.source)
    if faults := source.faults():
        raise SettingsError(tuple(faults))
    worst = FIT
    for finding in examine_machine(source, options.data_root, date.today()):
        print(finding, flush=True)
        worst = UNFIT if finding.level is Level.FAIL else worst
    return worst


def _list_weights(options: argparse.Namespace) -> int:
    print("\n".join(listed(WeightsFolder(options.weights_root))))
    return FIT


def _fetch_weights(options: argparse.Namespace) -> int:
    _known(options.name)
    _accept(WEIGHTS[options.name], accepted=options.accept_licence)
    file = WeightsFolder(options.weights_root).fetch(options.name, _Progress(), options.origin)
    print(f"{options.name} is at {file}")
    return FIT


def _import_weights(options: argparse.Namespace) -> int:
    folder, code = WeightsFolder(options.weights_root), FIT
    for name, path in names_in(options.file, options.name):
        _accept(WEIGHTS[name], accepted=options.accept_licence)
        try:
            print(f"{name} is at {folder.admit(name, path, 'imported')}")
        except IntegrityError as error:  # the others of a folder may be right
            print(error, file=sys.stderr)
            code = UNFIT
    return code


def _forget_weights(options: argparse.Namespace) -> int:
    _known(options.name)
    file = WeightsFolder(options.weights_root).forget(options.name)
    print(f"{options.name} is pinned no more; {file} is not used until it or another file is imported or fetched")
    return FIT


def _known(name: str) -> None:
    if name not in WEIGHTS:
        raise SettingsError((f"no weights are called {name!r}; there are {', '.join(WEIGHTS)}",))


def _accept(row: Weights, *, accepted: bool) -> None:
    """Tell the licence; go on only if it asks for nothing, or was accepted."""
    print(f"{row.name}: {row.licence}\ncite: {row.citation}", flush=True)
    if not row.asks_first or accepted:
        return
    if sys.stdin.isatty() and input("Do you accept this licence? [yes/no] ").strip().lower() == "yes":
        return
    raise SettingsError((f"{row.name} is not taken before its licence is accepted: add --accept-licence",))


class _Progress:
    """A line every 50 MB."""

    def __init__(self) -> None:
        self._next = 50 * _MEGABYTE

    def __call__(self, so_far: int, total: int | None) -> None:
        if so_far >= self._next:
            self._next += 50 * _MEGABYTE
            print(f"{so_far // _MEGABYTE} of {total // _MEGABYTE if total else '?'} MB", flush=True)


def _verify(options: argparse.Namespace) -> int:
    from pipeline.diagnostics import verify

    reader = verify.reader_of(options.folder)
    if options.against is not None:
        comparisons = list(verify.against(reader, options.against, options.array, options.video))
        if not comparisons:
            raise SettingsError((f"nothing in {options.against} is named after a video of {reader.name}; see --video",))
        _print_comparisons(comparisons)
        return UNFIT if any(comparison.differing for comparison in comparisons) else FIT
    choice = verify.Choice(
        sample=options.sample,
        seed=options.seed,
        weights=options.weights,
        weights_root=options.weights_root or verify.layout_of(options.folder).weights,
        files=dict(options.file),
        media=options.media,
        device=options.device,
    )
    found = verify.verify_sample(reader, choice)
    _print_comparisons(found.comparisons)
    if told := verify.other_processors(reader, options.device):
        print(told)
    print("\n  not compared: ".join([found.summary(), *map(str, found.gaps)]))
    return FIT if found.is_honest else UNFIT


def _print_comparisons(comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        print("\n  differs: ".join([str(comparison), *comparison.differing]))


def _name_and_path(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Look after what a run needs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="is this machine fit for a run?")
    doctor.add_argument("--data-root", type=local_folder, default=Path("data"), help="where everything will be kept")
    doctor.add_argument("--source", default=YOUTUBE, help="where videos come from, as in [download] source")
    doctor.set_defaults(run=_doctor)
    weights = commands.add_parser("weights", help="published weights: list, fetch, import, forget")
    _add_weights(weights.add_subparsers(required=True, metavar="list|fetch|import|forget"))
    _add_verify(commands.add_parser("verify", help="make some rows of a store anew and compare"))
    rebase.add_options(commands.add_parser("rebase", help="bring times of format version 1 over to players' seconds"))
    bench.add_options(commands.add_parser("bench", help="what this machine decodes and computes"))
    forecast_command.add_options(
        commands.add_parser("forecast", help="what a catalog will take, from what a part took")
    )
    return parser


def _add_weights(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parsers = {
        "list": (_list_weights, "what there is, what is here, and the licences"),
        "fetch": (_fetch_weights, "download published weights, or continue a download"),
        "import": (_import_weights, "take a file, or a folder of files, that came another way"),
        "forget": (_forget_weights, "undo the pin of a wrong file"),
    }
    for command, (run, told) in parsers.items():
        parser = commands.add_parser(command, help=told)
        root = "[data] root, and /weights"
        parser.add_argument("--weights-root", type=local_folder, default=Path("data/weights"), help=root)
        parser.set_defaults(run=run)
        if command == "forget":
            parser.add_argument("name", help="as `weights list` has it")
        if command in ("list", "forget"):
            continue
        parser.add_argument("--accept-licence", action="store_true", help="instead of answering yes")
        if command == "fetch":
            parser.add_argument("name", help="as `weights list` has it")
            parser.add_argument("--origin", help="a mirror's address of the same file; it is checked like the original")
        else:
            parser.add_argument("file", type=Path)
            parser.add_argument("--name", default="", help="as `weights list` has it; by default the file's own")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_verify)
    parser.add_argument("folder", type=Path, help="ROOT/<catalog>/features/<variant>-<fingerprint>")
    parser.add_argument("--sample", type=int, default=20, help="how many rows to make anew")
    parser.add_argument("--seed", type=int, default=0, help="which rows")
    parser.add_argument("--weights", default="", help="the weights they were made with, if --weights-root has not them")
    parser.add_argument("--weights-root", type=local_folder, help="by default the folder weights of FOLDER's own ROOT")
    parser.add_argument("--file", type=_name_and_path, action="append", default=[], metavar="SETTING=PATH",
                        help="the file of a setting that names one, such as mean; likewise")  # fmt: skip
    parser.add_argument("--media", type=Path, action="append", default=[], help="another folder with the videos")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 and so on")
    parser.add_argument("--against", type=Path, help="compare with this .npy or HDF5 file instead")
    parser.add_argument("--array", default="", help="with --against: which of our arrays")
    parser.add_argument("--video", default="", help="with --against: whose rows the file holds, if it does not say")


if __name__ == "__main__":
    run_and_exit(main)
