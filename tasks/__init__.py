"""Luigi tasks: every task a user can name in `luigi --module tasks NAME`."""

from storage.base.extras import exit_if_missing

try:
    from tasks.config.settings_file import exit_if_unreadable

    # Settings first: Luigi reads them when its modules are imported.
    exit_if_unreadable()

    import warnings

    from luigi.parameter import UnconsumedParameterWarning

    from tasks.config.luigi_values import install_percent_rule

    install_percent_rule()

    # Luigi warns of a misspelt key; `load_settings` reports it with the nearest key that there is.
    warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)

    from tasks import command_line
    from tasks.build_catalog import BuildCatalog
    from tasks.config.exit_codes import install_exit_codes
    from tasks.config.settings import settings_faults
    from tasks.features import (
        BuildFeatures,
        BuildPHD2Features,
        BuildVideoFeatures,
        ExtractShard,
        ExtractShards,
    )
    from tasks.highlight import HighlightVideo
    from tasks.slurm_array import WriteSlurmArray
    from tasks.training import ReproduceTable, ScoreModel, TrainModel
except ModuleNotFoundError as error:
    exit_if_missing(error)
    raise

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
