"""Texts of other people, such as ids and titles, in pictures: drawn as they are, whatever signs
they hold.

matplotlib reads a pair of dollar signs as mathematics, breaks lines, and warns of signs its font
lacks; a picture must not fail for an id. Refuses to know what is drawn.
"""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure

LONGEST = 60
"""Signs of one text that are drawn; a longer one would leave no room for the picture."""
_OWN, _OWN_MONOSPACE = "DejaVu Sans", "DejaVu Sans Mono"
"""They come with matplotlib."""
_WIDER = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Droid Sans Fallback", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari", "FreeSans",
)  # fmt: skip
"""Fonts of this machine that are asked for signs which the first lacks, if they are installed."""


@contextmanager
def literal_text() -> Iterator[None]:
    """Inside, every text that is made is drawn letter by letter, in fonts that this machine has."""
    with matplotlib.rc_context(
        {"text.parse_math": False, "text.usetex": False, "font.family": list(font_families())}
    ):
        yield


def encode_png(figure: Figure) -> bytes:
    """The figure as a PNG of 110 dots an inch that holds nothing but its pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def as_caption(text: str) -> str:
    """One line that can be drawn: white space becomes spaces, what no font has its code point, as
    in `\\u6f22`.
    """
    line = "".join(" " if sign.isspace() else _as_sign(sign) for sign in text)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _as_sign(sign: str) -> str:
    if unicodedata.category(sign)[0] != "C" and ord(sign) in _signs():
        return sign
    return (
        sign.encode("unicode_escape", "surrogatepass").decode()
        if ord(sign) > 126
        else f"\\x{ord(sign):02x}"
    )


def font_families(*, monospace: bool = False) -> tuple[str, ...]:
    """Names of fonts, asked one after the other for each sign."""
    known = set(_installed())
    own = (_OWN_MONOSPACE, _OWN) if monospace else (_OWN,)
    return (*own, *(name for name in _WIDER if name in known))


@functools.cache
def _installed() -> dict[str, str]:
    return {font.name: font.fname for font in font_manager.fontManager.ttflist}


@functools.cache
def _signs() -> frozenset[int]:
    """Code points that some font of `families` has."""
    files = [_installed()[name] for name in font_families() if name in _installed()]
    return frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())
