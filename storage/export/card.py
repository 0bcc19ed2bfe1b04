"""`README.md` of an export: a card for people, with a head that Hugging Face's hub reads.

Nothing in it comes from a video: titles and the messages of sites are in other files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from storage.base.fingerprint import readable_json
from storage.export.provenance import NOT_KNOWN

_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")


def card(
    provenance: Mapping[str, Any], opened_with: str, data_files: Mapping[str, str], split: str
) -> str:
    """The card's text.

    `data_files` maps the name of each part of the data set to the pattern of its files, for
    Hugging Face's `load_dataset`; it is empty for other forms. `split` is the split that was
    exported, or empty.
    """
    lines = [*_head(provenance, data_files, split), *_summary(provenance, opened_with)]
    for name, variant in provenance["variants"].items():
        lines += _variant(name, variant)
    lines += _rest(provenance)
    return "\n".join([*lines, ""])


def _head(provenance: Mapping[str, Any], data_files: Mapping[str, str], split: str) -> list[str]:
    if not data_files:
        return []
    # JSON strings are YAML strings, so no text can leave its quotes.
    shown_split = split if _SPLIT_NAME.fullmatch(split) and split != "all" else "train"
    lines = ["---", f"pretty_name: {json.dumps(provenance['catalog']['name'] + ' features')}"]
    lines += ["license: other", "tags:", "- video", "- features", "configs:"]
    for name, pattern in data_files.items():
        lines += [f"- config_name: {json.dumps(name)}", "  data_files:"]
        lines += [f"  - split: {json.dumps(shown_split)}", f"    path: {json.dumps(pattern)}"]
    return [*lines, "---", ""]


def _summary(provenance: Mapping[str, Any], opened_with: str) -> list[str]:
    selection, clips = provenance["selection"], provenance["clips"]
    lines = [f"# Features of the videos of {provenance['catalog']['name']}", ""]
    lines += [f"**{plain_markdown(mark)}**\n" for mark in provenance["marks"]]
    lines += [
        f"{selection['ids']} videos were selected ({plain_markdown(selection['rule'])}). "
        "`ids.csv` has the state of each, with the reason where it has no features. "
        "`provenance.json` has all settings, and was written last: a folder without it is not "
        "complete. `sha256sum -c SHA256SUMS` checks the files.",
        "",
        "```python",
        opened_with,
        "```",
        "",
        f"Rows: {clips['rule']}",
        "",
    ]
    if clips["clip_seconds"]:
        lines += [f"clip_seconds is {clips['clip_seconds']}.", ""]
    return lines


def _variant(name: str, variant: Mapping[str, Any]) -> Iterator[str]:
    yield f"## `{name}`"
    yield ""
    yield "| | |"
    yield "|-|-|"
    yield f"| videos | {variant['videos']} |"
    rows = f"{variant['rows_written']:,}, of {variant['rows_stored']:,} stored"
    yield f"| rows | {rows}; {variant['clips_filled']:,} clips are copies of the nearest row |"
    for array, form in variant["arrays"].items():
        kind = "a list of items of shape" if form["ragged"] else "of shape"
        yield f"| array `{array}` | {form['stored_dtype']}, {kind} {tuple(form['item_shape'])} |"
    for array, why in variant["arrays_not_exported"].items():
        yield f"| not exported: `{array}` | {why} |"
    yield f"| weights | {plain_markdown(variant['weights'] or 'none')} |"
    yield f"| times | {'; '.join(variant['time_origin'])} |"
    yield f"| logical digest | `{variant['logical_digest']}` |"
    yield ""
    yield "Settings:"
    yield ""
    # Indented code: no text in it can end the block.
    yield from (f"    {line}" for line in readable_json(variant["settings"]).decode().splitlines())
    yield ""


def _rest(provenance: Mapping[str, Any]) -> list[str]:
    lines = ["## Licence and citation", ""]
    for key in ("licence", "citation"):
        text = provenance[key]
        note = " State it before you pass this folder on." if text == NOT_KNOWN else ""
        lines += [f"{key.capitalize()}: {plain_markdown(text)}.{note}", ""]
    lines += [
        "The videos are not part of this folder. Features can show what a video shows, so the "
        "terms of the videos and of the weights may apply to them.",
        "",
        "## Texts from outside",
        "",
        provenance["ids_csv"],
        "",
    ]
    return lines


def plain_markdown(text: str) -> str:
    """A text on one line that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
