"""The HTML of all pages: templates and the shared style of this folder, filled in.

Jinja escapes every text. Numbers travel as JSON, in which `<`, `>` and `&` are escaped too.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE, SCRIPT, ICON = "look.css", "view.js", "icon.svg"
FILES = {
    STYLE: "text/css; charset=utf-8",
    SCRIPT: "text/javascript; charset=utf-8",
    ICON: "image/svg+xml",
}
"""File of this folder that pages load → its content type."""


@cache
def asset(name: str) -> str:
    """The text of one of the `FILES`."""
    return files("trainer.view").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    # Imported here: pictures and reports of a run do not need it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("trainer.view", "templates"),
        autoescape=True,  # titles and ids come from outside
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: object) -> bytes:
    """A page from a template of this folder."""
    return _environment().get_template(template).render(**values).encode()


def render_single_file(template: str, *, has_script: bool = True, **values: object) -> bytes:
    """A page that holds its style and script, and loads nothing.

    Its Content-Security-Policy names both by their sha256, so no other script in it can run.
    """
    style, script = asset(STYLE), asset(SCRIPT) if has_script else ""
    scripts = _source(script) if has_script else "'none'"
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {_source(style)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    icon = base64.b64encode(asset(ICON).encode()).decode()
    return render(template, style=style, script=script, policy=policy, icon=icon, **values)


def _source(text: str) -> str:
    """The expression that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
