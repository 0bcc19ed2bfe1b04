"""Luigi tasks: every task a user can name in `luigi --module tasks NAME`."""

import warnings

from luigi.parameter import UnconsumedParameterWarning

from tasks.config.settings_file import exit_if_unreadable

# Settings first: Luigi reads them when its modules are imported.
exit_if_unreadable()

from tasks.config.luigi_values import install_percent_rule  # noqa: E402

install_percent_rule()

# Luigi warns of a misspelt key; `load_settings` reports it with the nearest key that there is.
warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)

# Settings come first: Luigi reads them while the modules of the tasks are imported.
from tasks import command_line  # noqa: E402
from tasks.build_catalog import BuildCatalog  # noqa: E402
from tasks.config.exit_codes import install_exit_codes  # noqa: E402
from tasks.config.settings import settings_faults  # noqa: E402
from tasks.features import (  # noqa: E402
    BuildFeatures,
    BuildPHD2Features,
    BuildVideoFeatures,
    ExtractShard,
    ExtractShards,
)
from tasks.highlight import HighlightVideo  # noqa: E402
from tasks.slurm_array import WriteSlurmArray  # noqa: E402
from tasks.training import ReproduceTable, ScoreModel, TrainModel  # noqa: E402

install_exit_codes()
command_line.install_command_line_checks(settings_faults)

__all__ = [
    "BuildCatalog",
    "BuildFeatures",
    "BuildPHD2Features",
    "BuildVideoFeatures",
    "ExtractShard",
    "ExtractShards",
    "HighlightVideo",
    "ReproduceTable",
    "ScoreModel",
    "TrainModel",
    "WriteSlurmArray",
]
