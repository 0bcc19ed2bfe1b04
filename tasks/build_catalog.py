"""From published annotation files, or the sample's generator, to a catalog."""

from __future__ import annotations

from typing import Any

import luigi

from tasks.config.exit_codes import before_anything_starts
from tasks.config.settings import load
from tasks.execution.catalogs import build_catalog, is_current
from tasks.execution.shutdown import ORDERS_TO_US


class BuildCatalog(luigi.Task):
    """The catalog of a dataset: videos, users, links, annotations and shards, before any video is
    fetched.
    """

    catalog = luigi.Parameter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        before_anything_starts(lambda: load(self.catalog))

    def complete(self) -> bool:
        """Whether the kept catalog is whole and was made from the annotations that are configured
        now.
        """
        return is_current(load(self.catalog))

    def run(self) -> None:
        """Fetch or draw the sources, keep them as they are, read them, write the catalog."""
        with ORDERS_TO_US.drop_at_once():
            build_catalog(load(self.catalog))
