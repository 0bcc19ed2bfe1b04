"""`python -m pipeline golden NAME`: write the golden outputs of an extractor.

Run it when an extractor is new, or after its numerics_version was raised, and look at the diff. It
changes the file of that extractor only.
"""

from __future__ import annotations

import argparse

from models.extractors.golden.golden_outputs import write_golden_file
from models.extractors.registry import EXTRACTORS
from models.registry import PluginError
from pipeline.cli.exit_codes import SUCCESS
from storage.base.errors import SettingsError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("name", nargs="+", help="an extractor, ours or a plug-in's")
    parser.set_defaults(run=_golden)


def _golden(options: argparse.Namespace) -> int:
    import torch

    torch.set_num_threads(1)
    for name in options.name:
        try:
            path = write_golden_file(EXTRACTORS[name])
        except (KeyError, PluginError, ValueError) as error:
            raise SettingsError((str(error.args[0]),)) from error
        print(path)
    return SUCCESS
