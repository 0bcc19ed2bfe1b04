"""Training, scoring and paper tables as Luigi tasks, complete when their output is up to date.

They do the same as `python -m trainer fit`, `score` and `table`. The features have to be built
before; a recipe that lacks some fails and names them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import luigi

from pipeline.compute.devices import resolve_device
from pipeline.datasets.registry import DATASETS
from storage.base.errors import LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.catalog.catalog import CATALOG_NAME
from tasks.config.exit_codes import check_before_start
from tasks.config.luigi_sections import CommaList
from tasks.config.settings import Settings, load_settings
from tasks.execution import progress

if TYPE_CHECKING:
    from trainer.paper_tables.reproduce import TableRequest
    from trainer.training.fit import Run


def _training_settings(catalog: str) -> Settings:
    """All of `workflows.cfg`, checked, also for a catalog on disk that no dataset makes.

    Such as a planted store: it has only a place, and the rest is as for the sample.
    """
    if catalog not in DATASETS and catalog not in DATASETS.plugin_names():
        sample = load_settings("sample")
        layout = Layout(sample.layout.root, catalog)
        if CATALOG_NAME.fullmatch(catalog) and layout.catalog_file.is_file():
            return dataclasses.replace(sample, layout=layout)
    return load_settings(catalog)


class _CatalogTask(luigi.Task):
    """The options and checks that the three tasks share."""

    catalog = luigi.Parameter(description="whose features are read")
    small = luigi.BoolParameter(
        description="the recipes' small widths: a trial of seconds, no result"
    )
    changes = luigi.ListParameter(
        default=(), description='of recipes, as JSON: ["training.epochs=3"]'
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        check_before_start(self.check)

    def check(self) -> None:
        """Raise SettingsError with all faults of the command line and of `workflows.cfg`."""
        faults: list[str] = []
        for step in (lambda: _training_settings(self.catalog), self.look_up):
            try:
                step()
            except SettingsError as error:
                faults += error.faults
            except LookupFailed as error:
                faults.append(str(error))
        if faults:
            raise SettingsError(tuple(faults))

    def look_up(self) -> None:
        """Find the recipe or tables of the command line. Raises LookupFailed or SettingsError."""
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        """All of `workflows.cfg`, checked."""
        return _training_settings(self.catalog)


class TrainModel(_CatalogTask):
    """Trains one network: a recipe on a catalog's features, with a seed."""

    recipe = luigi.Parameter(description="its name, or a .toml file")
    seed = luigi.IntParameter(default=0)

    def look_up(self) -> None:
        """Load the recipe with its changes."""
        from trainer.config.recipe import load_recipe

        load_recipe(self.recipe, changes=tuple(self.changes), small=self.small)

    def training_run(self) -> Run:
        """The training run of this task."""
        from trainer.config.recipe import load_recipe
        from trainer.training.fit import Run

        recipe = load_recipe(self.recipe, changes=tuple(self.changes), small=self.small)
        return Run(recipe, self.settings.layout.folder, self.seed)

    def model(self) -> Path:
        """Its `model.safetensors`.

        Raises LookupFailed without features: the name depends on them.
        """
        run = self.training_run()
        return run.run_folder(run.data()) / "model.safetensors"

    def complete(self) -> bool:
        """Whether the network is trained, on the present features and by the present code."""
        from trainer.training.fit import is_trained

        try:
            return is_trained(self.training_run(), self.model())
        except LookupFailed:
            return False

    def run(self) -> None:
        """Train, or continue an interrupted training."""
        from trainer.training.fit import FitOptions, fit

        fit(self.training_run(), FitOptions(device=resolve_device(self.settings.device)))


class ScoreModel(TrainModel):
    """Scores a network on the users of a split."""

    split: Any = luigi.ChoiceParameter(
        choices=("train", "validation", "test", "all"), default="test"
    )

    def requires(self) -> Any:
        """The trained network."""
        return self.clone(TrainModel)

    def complete(self) -> bool:
        """Whether scores of this network and split are there."""
        from trainer.inference.score_run import EvalRequest, are_scores_current

        if not super().complete():
            return False
        request = EvalRequest(self.model(), self.settings.layout.folder, self.split)
        return are_scores_current(request)

    def run(self) -> None:
        """Score the split and save the scores."""
        from trainer.inference.score_run import EvalRequest, score_split

        request = EvalRequest(self.model(), self.settings.layout.folder, self.split)
        score_split(request, device=resolve_device(self.settings.device))


class ReproduceTable(_CatalogTask):
    """Reproduces tables of papers on a catalog, under its `report/`.

    Trains and scores the networks that are missing.
    """

    tables = CommaList(description="names, as `python -m trainer table` lists them")
    seeds = luigi.IntParameter(default=1)

    def look_up(self) -> None:
        """Load the tables."""
        from trainer.paper_tables.published import load_table

        for name in self.tables:
            load_table(name)

    def requests(self) -> list[TableRequest]:
        """One request for each table."""
        from trainer.paper_tables.published import load_table
        from trainer.paper_tables.reproduce import TableRequest

        folder = self.settings.layout.folder
        return [
            TableRequest(load_table(name), folder, self.seeds, self.small, tuple(self.changes))
            for name in self.tables
        ]

    def complete(self) -> bool:
        """Whether all reports are there, for the present features, recipes and papers."""
        from trainer.paper_tables.render import is_report_current

        return all(is_report_current(request) for request in self.requests())

    def run(self) -> None:
        """Measure, save and print each table."""
        from trainer.paper_tables.render import render_table, save_report
        from trainer.paper_tables.reproduce import reproduce

        for request in self.requests():
            rows = reproduce(request, device=resolve_device(self.settings.device))
            save_report(request, rows)
            progress.print_line("\n".join(render_table(request, rows, "text")))
