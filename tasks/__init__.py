"""Luigi tasks: every task a user can name in `luigi --module tasks NAME`."""

import configparser
import os
import sys
from pathlib import Path

from luigi.configuration import add_config_path

# Luigi reads workflows.cfg only if it is added here. LUIGI_CONFIG_PATH names another file, which
# then replaces it.
_CONFIG = Path(
    os.environ.get("LUIGI_CONFIG_PATH") or Path(__file__).resolve().parents[1] / "workflows.cfg"
)
try:
    if not _CONFIG.is_file():
        raise FileNotFoundError(
            f"there is no settings file {_CONFIG}; "
            "correct LUIGI_CONFIG_PATH, or restore workflows.cfg"
        )
    add_config_path(str(_CONFIG))
except (OSError, UnicodeDecodeError, configparser.Error) as _error:
    # As SettingsError puts it, which cannot be imported before the settings are read.
    sys.stderr.write(
        f"these settings must be corrected before anything starts:\n  - {_CONFIG}: {_error}\n"
    )
    raise SystemExit(2) from _error

from tasks.config.luigi_values import install_percent_rule  # noqa: E402

install_percent_rule()

# Settings come first: Luigi reads them while the modules of the tasks are imported.
from tasks import command_line  # noqa: E402
from tasks.build_catalog import BuildCatalog  # noqa: E402
from tasks.config.exit_codes import install_exit_codes  # noqa: E402
from tasks.config.settings import settings_faults  # noqa: E402
from tasks.features import BuildFeatures, BuildPHD2Features, ExtractShard, ExtractShards  # noqa: E402
from tasks.highlight import HighlightVideo  # noqa: E402
from tasks.slurm_array import WriteSlurmArray  # noqa: E402
from tasks.training import ReproduceTable, ScoreModel, TrainModel  # noqa: E402

install_exit_codes()
command_line.install_command_line_checks(settings_faults)

__all__ = [
    "BuildCatalog",
    "BuildFeatures",
    "BuildPHD2Features",
    "ExtractShard",
    "ExtractShards",
    "HighlightVideo",
    "ReproduceTable",
    "ScoreModel",
    "TrainModel",
    "WriteSlurmArray",
]
