"""A report as one static HTML file: the network, its metrics, and pictures of its predictions.

The file holds its pictures and style, so it can be shown on its own. The page is in
`report.html.jinja`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ReportSection:
    """A picture with its heading and caption."""

    title: str
    caption: str
    png: bytes

    @property
    def png_base64(self) -> str:
        """The picture as a data URL holds it."""
        return base64.b64encode(self.png).decode()


def render_page(
    title: str,
    table: Sequence[tuple[str, str]],
    notes: Sequence[str],
    gaps: Sequence[str],
    shown: Sequence[ReportSection],
) -> bytes:
    """The HTML of a report.

    `table` has names and values. `notes` are reasons why the numbers are not a result, `gaps` are
    what the paper leaves open.
    """
    # Imported here: jinja2 comes with torch, and the other pictures do not need it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trainer.plots", "."),
        autoescape=True,  # titles and ids come from outside
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("report.html.jinja")
    html = page.render(title=title, table=table, notes=notes, gaps=gaps, sections=shown)
    return html.encode()
