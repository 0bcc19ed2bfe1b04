"""Draws the folders and their arrows: `python -m tests.draw_folders` rewrites
`docs/architecture.svg` and the README's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from tests.conftest import REPOSITORY
from tests.folders import MAY_IMPORT, PACKAGES, purpose_of

DRAWING = "docs/architecture.svg"
START, END = "<!-- folders -->", "<!-- /folders -->"
COLOURS = {
    "storage": "#3b6ea5",
    "models": "#7a4fa3",
    "pipeline": "#2f7d4f",
    "trainer": "#b3632c",
    "tasks": "#8a8a2b",
}
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 152, 34, 14, 46, 20


def folder_table() -> str:
    """Markdown: every folder, its purpose, and which folders of its own package it imports."""
    lines = [START, "| folder | purpose | imports, in its own package |", "|-|-|-|"]
    for folder in sorted(
        MAY_IMPORT, key=lambda name: (PACKAGES.index(name.partition(".")[0]), name)
    ):
        package = folder.partition(".")[0]
        siblings = [other for other in MAY_IMPORT[folder] if other.startswith(f"{package}.")]
        names = ", ".join(
            f"`{other.removeprefix(package + '.').replace('.', '/')}`" for other in sorted(siblings)
        )
        lines.append(f"| `{folder.replace('.', '/')}/` | {purpose_of(folder)} | {names} |")
    return "\n".join([*lines, END])


def rows() -> list[list[str]]:
    """The folders from top to bottom: every folder stands above all that it imports."""
    height: dict[str, int] = {}

    def height_of(folder: str) -> int:
        if folder not in height:
            height[folder] = 1 + max((height_of(other) for other in MAY_IMPORT[folder]), default=-1)
        return height[folder]

    for folder in MAY_IMPORT:
        height_of(folder)
    by_height = [
        [folder for folder in MAY_IMPORT if height[folder] == one]
        for one in range(max(height.values()) + 1)
    ]
    order = [
        sorted(row, key=lambda name: (PACKAGES.index(name.partition(".")[0]), name))
        for row in by_height
    ]
    return order[::-1]


def reduced() -> dict[str, set[str]]:
    """The arrows that no longer way says already: an arrow is left out if another imported folder
    reaches its end.
    """
    below: dict[str, set[str]] = {}

    def all_below(folder: str) -> set[str]:
        if folder not in below:
            below[folder] = set().union(
                *(all_below(other) | {other} for other in MAY_IMPORT[folder])
            )
        return below[folder]

    return {
        folder: {
            other
            for other in others
            if not any(other in all_below(between) for between in others - {other})
        }
        for folder, others in MAY_IMPORT.items()
    }


def drawing() -> str:
    """The SVG: a box for each folder in its package's colour, with an arrow to each folder that it
    imports.
    """
    order = rows()
    width = max(len(row) for row in order) * (WIDTH + GAP_X) + 2 * MARGIN
    height = len(order) * (HEIGHT + GAP_Y) + 2 * MARGIN
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(order):
        left = (width - len(row) * (WIDTH + GAP_X) + GAP_X) / 2
        for place, folder in enumerate(row):
            places[folder] = (left + place * (WIDTH + GAP_X), MARGIN + number * (HEIGHT + GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_arrows(places),
        *_boxes(places),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _arrows(places: dict[str, tuple[float, float]]) -> Iterator[str]:
    for folder, others in sorted(reduced().items()):
        for other in sorted(others):
            (x1, y1), (x2, y2) = places[folder], places[other]
            start, end = (x1 + WIDTH / 2, y1 + HEIGHT), (x2 + WIDTH / 2, y2)
            bend = (end[1] - start[1]) / 2
            yield (
                f'<path d="M{start[0]:.0f},{start[1]:.0f} C{start[0]:.0f},{start[1] + bend:.0f} '
                f'{end[0]:.0f},{end[1] - bend:.0f} {end[0]:.0f},{end[1]:.0f}" fill="none" '
                f'stroke="{COLOURS[folder.partition(".")[0]]}" stroke-opacity="0.55"/>'
            )


def _boxes(places: dict[str, tuple[float, float]]) -> Iterator[str]:
    for folder, (x, y) in sorted(places.items()):
        package, _, rest = folder.partition(".")
        label = escape(rest.replace(".", "/") or package)
        yield (
            f"<g><title>{escape(folder)}: {escape(purpose_of(folder))}</title>"
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{COLOURS[package]}"/>'
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + 13:.0f}" fill="white" font-size="9" text-anchor="middle">'
            f"{package}</text>"
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + 27:.0f}" fill="white" font-size="12" text-anchor="middle">'
            f"{label}</text></g>"
        )


def main() -> None:
    """Rewrite the drawing and the table."""
    (REPOSITORY / DRAWING).write_text(drawing())
    readme = REPOSITORY / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(before + folder_table() + after)


if __name__ == "__main__":
    main()
