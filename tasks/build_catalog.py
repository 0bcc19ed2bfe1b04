"""`BuildCatalog`: makes a catalog from published annotation files, or generates a sample."""

from __future__ import annotations

from typing import Any

import luigi

from tasks.config.exit_codes import check_before_start
from tasks.config.settings import load_settings
from tasks.execution.catalogs import build_catalog, is_current
from tasks.execution.shutdown import SHUTDOWN


class BuildCatalog(luigi.Task):
    """Builds the catalog of a dataset: its videos, users, links, annotations and shards.

    No video is downloaded.
    """

    catalog = luigi.Parameter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        check_before_start(lambda: load_settings(self.catalog))

    def complete(self) -> bool:
        """Whether the catalog is whole, and made from the annotations that are configured now."""
        return is_current(load_settings(self.catalog))

    def run(self) -> None:
        """Fetch or generate the annotation files, save them, parse them, write the catalog."""
        with SHUTDOWN.interruptible():
            build_catalog(load_settings(self.catalog))
