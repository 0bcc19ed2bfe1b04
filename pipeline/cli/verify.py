"""`python -m pipeline verify`: recomputes stored rows and compares them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.arguments import local_folder
from pipeline.cli.exit_codes import FAILURE, SUCCESS
from storage.base.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.diagnostics.comparison import Comparison
    from storage.features.store import VariantReader


def _verify(options: argparse.Namespace) -> int:
    # Imports torch, which takes seconds.
    from pipeline.diagnostics import store_variant, verify

    reader = store_variant.open_variant(options.folder)
    if options.against is not None:
        return _compare_with_file(reader, options)
    own_weights = store_variant.layout_of_variant(options.folder).weights
    verify_options = verify.VerifyOptions(
        sample=options.sample,
        seed=options.seed,
        weights=options.weights,
        weights_root=options.weights_root or own_weights,
        files=dict(options.file),
        media=options.media,
        device=options.device,
    )
    result = verify.verify_sample(reader, verify_options)
    _print_comparisons(result.comparisons)
    note = verify.processor_note(reader, options.device)
    if note:
        print(note)
    print("\n  not compared: ".join([result.summary(), *map(str, result.skipped)]))
    return SUCCESS if result.is_verified else FAILURE


def _compare_with_file(reader: VariantReader, options: argparse.Namespace) -> int:
    from pipeline.diagnostics.comparison import compare_with_file

    comparisons = list(compare_with_file(reader, options.against, options.array, options.video))
    if not comparisons:
        problem = f"nothing in {options.against} is named after a video of {reader.name}"
        raise SettingsError((f"{problem}; see --video",))
    _print_comparisons(comparisons)
    return FAILURE if any(one.differing for one in comparisons) else SUCCESS


def _print_comparisons(comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        print("\n  differs: ".join([str(comparison), *comparison.differing]))


def _name_and_path(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.set_defaults(run=_verify)
    parser.add_argument("folder", type=Path, help="ROOT/<catalog>/features/<variant>-<fingerprint>")
    parser.add_argument("--sample", type=int, default=20, help="number of rows to recompute")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of rows")
    parser.add_argument(
        "--weights",
        default="",
        help="the weights they were made with, if these are not in --weights-root",
    )
    parser.add_argument(
        "--weights-root",
        type=local_folder,
        help="default: the folder weights of FOLDER's own ROOT",
    )
    parser.add_argument(
        "--file",
        type=_name_and_path,
        action="append",
        default=[],
        metavar="SETTING=PATH",
        help="the file of a setting such as mean, if it is not in --weights-root",
    )
    parser.add_argument(
        "--media", type=Path, action="append", default=[], help="another folder with the videos"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--against", type=Path, help="compare with this .npy or HDF5 file instead")
    parser.add_argument("--array", default="", help="with --against: the stored array to compare")
    parser.add_argument(
        "--video",
        default="",
        help="with --against: the video of the rows, if the file does not name it",
    )
