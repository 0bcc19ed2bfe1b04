"""Draws published texts, such as IDs and titles, literally.

matplotlib reads a pair of dollar signs as mathematics, breaks lines, and warns about characters
that its font lacks. A picture must not fail because of an ID.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib import font_manager

LONGEST = 60
"""Characters of a text that are drawn; a longer one would leave no room for the picture."""
_OWN, _OWN_MONOSPACE = "DejaVu Sans", "DejaVu Sans Mono"
"""They come with matplotlib."""
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "FreeSans",
)
"""Fonts for characters that the first font lacks, if they are installed."""


@contextmanager
def literal_text() -> Iterator[None]:
    """Texts that are made inside are drawn literally, in the fonts of this machine."""
    with matplotlib.rc_context(
        {"text.parse_math": False, "text.usetex": False, "font.family": list(font_families())}
    ):
        yield


def as_caption(text: str) -> str:
    """One line that can be drawn.

    White space becomes spaces. A character that no font has becomes its code point, such as
    `\\u6f22`.
    """
    line = "".join(" " if sign.isspace() else _drawable(sign) for sign in text)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _drawable(sign: str) -> str:
    is_control = unicodedata.category(sign).startswith("C")
    if not is_control and ord(sign) in _known_code_points():
        return sign
    if ord(sign) > 126:
        return sign.encode("unicode_escape", "surrogatepass").decode()
    return f"\\x{ord(sign):02x}"


def font_families(*, monospace: bool = False) -> tuple[str, ...]:
    """Names of fonts; matplotlib takes each character from the first one that has it."""
    installed = _installed_fonts()
    own = (_OWN_MONOSPACE, _OWN) if monospace else (_OWN,)
    return (*own, *(name for name in _FALLBACKS if name in installed))


@functools.cache
def _installed_fonts() -> dict[str, str]:
    """Name → file."""
    return {font.name: font.fname for font in font_manager.fontManager.ttflist}


@functools.cache
def _known_code_points() -> frozenset[int]:
    """Code points that at least one of the `font_families` has."""
    installed = _installed_fonts()
    files = [installed[name] for name in font_families() if name in installed]
    return frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())
