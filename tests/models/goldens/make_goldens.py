"""Writes models/extractors/goldens.json: `python -m tests.models.goldens.make_goldens [NAME...]`;
look at the diff.

Run it when an extractor is new, or after its numerics_version was raised; with names, only these
entries are made anew.
"""

from __future__ import annotations

import json
import sys

import torch

from models.extractors.golden.golden_outputs import (
    GOLDENS_FILE,
    compute_golden_outputs,
    golden_entry,
)
from models.extractors.registry import EXTRACTORS


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    entries = json.loads(GOLDENS_FILE.read_text()) if GOLDENS_FILE.exists() else {}
    for name in names or sorted(EXTRACTORS):
        found = compute_golden_outputs(EXTRACTORS[name], "cpu")
        empty = [array for array, signature in found.items() if not signature.norm]
        if empty:
            sys.exit(f"{name}: {', '.join(empty)} would prove nothing, for nothing is in it")
        entries[name] = golden_entry(EXTRACTORS[name], found)
    GOLDENS_FILE.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
