"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import argparse
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.base.paths import Layout

MOST_SEEDS, MOST_WORKERS = 1000, 256


def add_folder(
    parser: argparse.ArgumentParser,
    help: str = "ROOT/<catalog>, with the features that the network reads",
) -> None:
    """`FOLDER`: the catalog."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=help)


def add_model_and_folder(
    parser: argparse.ArgumentParser, model: str = "a model.safetensors"
) -> None:
    """`MODEL FOLDER`: a trained network and a catalog."""
    parser.add_argument("model", type=Path, metavar="MODEL", help=model)
    add_folder(parser)


def add_seeds(parser: argparse.ArgumentParser, default: int, help: str) -> None:
    """`--seeds N`: seeds 0 to N - 1."""
    parser.add_argument("--seeds", type=int, default=default, metavar="N", help=help)


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`: where the network computes."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """`--workers`: processes of the data loader."""
    parser.add_argument("--workers", type=int, default=0, help="processes that read data ahead")


def add_training(parser: argparse.ArgumentParser) -> None:
    """The options of every command that trains, except for its seeds."""
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="change a setting of the recipe; may be given several times",
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="the recipe's small widths: a trial of seconds, not a result",
    )
    add_device(parser)
    add_workers(parser)


def check_training(options: argparse.Namespace) -> None:
    """Raise SettingsError if `--seeds` or `--workers` is out of range."""
    faults = []
    for name, least, most in (("seeds", 1, MOST_SEEDS), ("workers", 0, MOST_WORKERS)):
        value = getattr(options, name)
        if not least <= value <= most:
            faults.append(f"--{name} must be {least} to {most}, got {value}")
    if faults:
        raise SettingsError(tuple(faults))


def check_at_least_one(options: argparse.Namespace, name: str) -> None:
    """Raise SettingsError if the option is below 1."""
    value = getattr(options, name)
    if value < 1:
        raise SettingsError((f"--{name} must be at least 1, got {value}",))


def check_model_and_folder(options: argparse.Namespace) -> None:
    """Raise LookupFailed unless `MODEL` is a file and `FOLDER` holds a catalog.

    Commands check this before they import networks, which takes seconds.
    """
    model, folder = options.model, options.folder
    if not model.is_file():
        problem = "is a folder" if model.is_dir() else "does not exist"
        raise LookupFailed(
            f"no checkpoint {model}: it {problem}; give a model.safetensors, or train one with "
            "`python -m trainer fit`"
        )
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    if not layout.catalog_file.is_file():
        raise LookupFailed(f"no catalog in {folder}; give ROOT/<catalog>, such as data/sample")
