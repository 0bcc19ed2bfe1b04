"""`python -m pipeline golden NAME`: write the golden outputs of an extractor.

Run it when an extractor is new, or after its numerics_version was raised, and look at the diff. It
changes the file of that extractor only, and writes nothing that would prove nothing.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from models.extractors.base.failures import ExtractorError
from models.extractors.golden.golden_outputs import write_golden_file
from models.extractors.golden.proof import proof_faults
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
        print(_write(name))
    return SUCCESS


def _write(name: str) -> Path:
    try:
        spec = EXTRACTORS.chosen(name)
        faults = proof_faults(spec)
        if faults:
            raise SettingsError(tuple(faults))
        return write_golden_file(spec)
    except ExtractorError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__, file=sys.stderr)
        raise SettingsError((str(error),)) from error
    except (KeyError, PluginError, ValueError) as error:
        raise SettingsError((str(error.args[0]),)) from error
