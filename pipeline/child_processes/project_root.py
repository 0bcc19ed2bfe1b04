"""The folder that holds our packages: child processes run there, so that `python -m` finds them."""

from __future__ import annotations

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
