"""One static HTML file: what a network is, what it scores, and pictures of its answers. Needs
nothing else to be shown.

Refuses to know what the pictures show.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "img{width:100%;height:auto}table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;text-align:left}"
    "h2{font-size:1.05em;margin:2em 0 .3em}.note{color:#d1495b}"
)


@dataclass(frozen=True)
class ReportSection:
    """One picture and what is said above it."""

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
    """`table` has names and values; `notes` make the numbers no result, `gaps` are what a source
    leaves open.
    """
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in table
    )
    warned = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    listed = "".join(f"<li>{escape(gap)}</li>" for gap in gaps)
    pictures = "".join(_section(one) for one in shown)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{warned}<table>{rows}</table>{pictures}"
        + (
            f"<h2>What the paper leaves open, and what is done here</h2><ul>{listed}</ul>"
            if gaps
            else ""
        )
        + "</html>\n"
    ).encode()


def _section(one: ReportSection) -> str:
    picture = base64.b64encode(one.png).decode()
    return (
        f"<h2>{escape(one.title)}</h2><p>{escape(one.caption)}</p>"
        f'<img alt="{escape(one.title)}" src="data:image/png;base64,{picture}">'
    )
