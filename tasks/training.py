"""Training, scoring and whole tables as tasks: each is complete when what it writes is there and up
to date.

What `python -m trainer fit`, `score` and `table` do, for those who schedule with Luigi. Features
have to be built before; a recipe that lacks some fails and names them. Refuses to know how anything
is learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import luigi

from pipeline.compute.devices import resolve_device
from storage.base.errors import LookupFailed, SettingsError
from tasks.config.exit_codes import before_anything_starts
from tasks.config.luigi_sections import CommaList
from tasks.config.settings import Settings, faults_of, load
from tasks.reporting import run_report

if TYPE_CHECKING:
    from trainer.paper_tables.reproduce import TableRequest
    from trainer.training.fit import Run


class _OfCatalog(luigi.Task):
    """What the three have in common."""

    catalog = luigi.Parameter(description="whose features are read")
    small = luigi.BoolParameter(
        description="the recipes' small widths: a trial of seconds, no result"
    )
    changes = luigi.ListParameter(
        default=(), description='of recipes, as JSON: ["training.epochs=3"]'
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        before_anything_starts(self.check)

    def check(self) -> None:
        """Raise SettingsError for what is wrong on the command line or in `workflows.cfg`."""
        faults = list(faults_of(self.catalog))
        try:
            self.look_up()
        except (LookupFailed, SettingsError) as error:
            faults += error.faults if isinstance(error, SettingsError) else [str(error)]
        if faults:
            raise SettingsError(tuple(faults))

    def look_up(self) -> None:
        """Find what the command line names. Raises LookupFailed or SettingsError where there is no
        such thing.
        """
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        """All of `workflows.cfg`, checked."""
        return load(self.catalog)


class TrainModel(_OfCatalog):
    """One network: a recipe on a catalog's features with a seed."""

    recipe = luigi.Parameter(description="its name, or a .toml file")
    seed = luigi.IntParameter(default=0)

    def look_up(self) -> None:
        """The recipe, with its changes."""
        from trainer.config.recipe import load_recipe

        load_recipe(self.recipe, changes=tuple(self.changes), small=self.small)

    def asked(self) -> Run:
        """The run this task is about."""
        from trainer.config.recipe import load_recipe
        from trainer.training.fit import Run

        recipe = load_recipe(self.recipe, changes=tuple(self.changes), small=self.small)
        return Run(recipe, self.settings.layout.folder, self.seed)

    def model(self) -> Path:
        """Its `model.safetensors`. LookupFailed if there are no features to name it after."""
        run = self.asked()
        return run.run_folder(run.data()) / "model.safetensors"

    def complete(self) -> bool:
        """Whether the network is finished, for the features that are there now."""
        try:
            return self.model().is_file()
        except LookupFailed:
            return False

    def run(self) -> None:
        """Train, or go on."""
        from trainer.training.fit import FitOptions, fit

        fit(self.asked(), FitOptions(device=resolve_device(self.settings.device)))


class ScoreModel(TrainModel):
    """The scores of a network on the users of a split."""

    split: Any = luigi.ChoiceParameter(
        choices=("train", "validation", "test", "all"), default="test"
    )

    def requires(self) -> Any:
        """The network."""
        return self.clone(TrainModel)

    def complete(self) -> bool:
        """Whether the scores are there, and are this network's."""
        from storage.scores import score_run_names
        from trainer.inference.score_run import EvalRequest

        if not super().complete():
            return False
        question = EvalRequest(self.model(), self.settings.layout.folder, self.split)
        return question.name in score_run_names(question.layout)

    def run(self) -> None:
        """Score and keep."""
        from trainer.inference.score_run import EvalRequest, score_split

        question = EvalRequest(self.model(), self.settings.layout.folder, self.split)
        score_split(question, device=resolve_device(self.settings.device))


class ReproduceTable(_OfCatalog):
    """A paper's table, or some, on a catalog, kept under its `report/`; trains and scores what is
    missing.
    """

    tables = CommaList(description="names, as `python -m trainer table` lists them")
    seeds = luigi.IntParameter(default=1)

    def look_up(self) -> None:
        """The tables."""
        from trainer.paper_tables.published import load_table

        for name in self.tables:
            load_table(name)

    def orders(self) -> list[TableRequest]:
        """One for each table."""
        from trainer.paper_tables.published import load_table
        from trainer.paper_tables.reproduce import TableRequest

        folder = self.settings.layout.folder
        return [
            TableRequest(load_table(name), folder, self.seeds, self.small, tuple(self.changes))
            for name in self.tables
        ]

    def complete(self) -> bool:
        """Whether all reports are there, for the features, recipes and published numbers of now."""
        from trainer.paper_tables.render import is_report_current

        return all(is_report_current(order) for order in self.orders())

    def run(self) -> None:
        """Measure, keep, and show."""
        from trainer.paper_tables.render import render_table, save_report
        from trainer.paper_tables.reproduce import reproduce

        for order in self.orders():
            rows = reproduce(order, device=resolve_device(self.settings.device))
            save_report(order, rows)
            run_report.say("\n".join(render_table(order, rows, "text")))
