"""The section `[list]`: what a catalog of one's own videos is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "video": (
        "video", "video_id", "videoid", "vid", "id", "youtube_id", "url", "link", "address",
        "path", "file", "filename", "video_path", "video_url", "source", "clip",
    ),
    "start": ("start", "start_seconds", "start_time", "begin", "from", "t_start", "start_sec"),
    "end": ("end", "end_seconds", "end_time", "stop", "to", "t_end", "end_sec"),
    "user": ("user", "user_id", "userid", "person"),
    "role": ("role",),
    "annotator": ("annotator", "annotator_id", "rater", "worker", "worker_id", "judge"),
    "label": ("label", "class", "category", "tag", "event"),
    "score": ("score", "value", "rating", "saliency", "importance", "relevance"),
    "split": ("split", "subset", "set", "partition"),
    "title": ("title", "name", "video_title", "video_name"),
    "duration": ("duration", "duration_seconds", "video_duration", "length_seconds"),
}  # fmt: skip
"""What a column means → the names that it is known by, in the order of preference."""


@dataclass(frozen=True)
class OwnVideosSettings:
    """The section `[list]`, or `[list.NAME]` for one of several."""

    path: str = ""
    """What the catalog is made from: a folder of videos; one video, as a file or an http(s)
    address; a text file with one address, id or path on each line; or a table (.csv, .tsv, .jsonl,
    .parquet) with a column of videos and, if there are labels, one interval on each row.
    """
    columns: tuple[str, ...] = ()
    """Names of a table's columns, as meaning: name, such as video: clip, start: begin, end: stop.
    Meanings are video, start, end, user, role, annotator, label, score, split, title and duration.
    Usual names are found without this setting.
    """
    playlists: bool = False
    """Whether an address of a playlist or channel stands for all its videos. Otherwise one address
    is one video.
    """
    allow_private: bool = False
    """Whether addresses of this machine and of private networks may be asked. They are refused
    otherwise, since a list from elsewhere could ask what only this machine can reach.
    """

    def faults(self) -> Iterator[str]:
        """One sentence for each wrong setting."""
        for pair in self.columns:
            meaning, colon, name = (part.strip() for part in pair.partition(":"))
            if not colon or not name or meaning not in COLUMNS:
                yield (
                    "columns takes pairs like start: begin, whose first words are "
                    f"{', '.join(COLUMNS)}; got {pair!r}"
                )

    def column_names(self) -> dict[str, str]:
        """Meaning → name of the column, as the settings state them."""
        pairs = (pair.partition(":") for pair in self.columns)
        return {meaning.strip(): name.strip() for meaning, _, name in pairs}
