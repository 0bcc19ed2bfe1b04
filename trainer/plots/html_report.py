"""A report as one static HTML file: the network, its metrics, and pictures of its predictions.

The file holds its pictures and style, so it can be shown on its own.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "img{width:100%;height:auto}table{border-collapse:collapse}"
    "td,th{padding:.15em .8em .15em 0;text-align:left}"
    "h2{font-size:1.05em;margin:2em 0 .3em}.note{color:#d1495b}"
)


@dataclass(frozen=True)
class ReportSection:
    """A picture with its heading and caption."""

    title: str
    caption: str
    png: bytes


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
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in table
    )
    warnings = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    pictures = "".join(_section(section) for section in shown)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    html = (
        f'<!doctype html><html lang="en">{head}'
        f"<h1>{escape(title)}</h1>{warnings}<table>{rows}</table>{pictures}{_gap_list(gaps)}"
        "</html>\n"
    )
    return html.encode()


def _gap_list(gaps: Sequence[str]) -> str:
    if not gaps:
        return ""
    items = "".join(f"<li>{escape(gap)}</li>" for gap in gaps)
    return f"<h2>What the paper leaves open, and what is done here</h2><ul>{items}</ul>"


def _section(section: ReportSection) -> str:
    picture = base64.b64encode(section.png).decode()
    return (
        f"<h2>{escape(section.title)}</h2><p>{escape(section.caption)}</p>"
        f'<img alt="{escape(section.title)}" src="data:image/png;base64,{picture}">'
    )
