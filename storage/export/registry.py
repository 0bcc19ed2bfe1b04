"""The forms of export: one row for each."""

from __future__ import annotations

from collections.abc import Mapping

from storage.export import numpy_files
from storage.export.contract import ExportFormat

PEERS_CLIP_SECONDS = 2.0
"""The length of a clip in QVHighlights, and so in UMT, Moment-DETR and lighthouse."""

FORMATS: Mapping[str, ExportFormat] = {
    "npz": ExportFormat(
        description="one .npz for each video and array, as UMT, Moment-DETR, lighthouse read it",
        opened_with='numpy.load("VARIANT/ARRAY/ID.npz")["features"]',
        writer=numpy_files.NpzWriter,
        read_back=numpy_files.read_npz,
        as_written=numpy_files.npz_rows,
        refusal=numpy_files.refuse_ragged,
        default_clip_seconds=PEERS_CLIP_SECONDS,
    ),
    "npy": ExportFormat(
        description="one .npy for each video and array",
        opened_with='numpy.load("VARIANT/ARRAY/ID.npy")  # spans: VARIANT/ID.spans.npy',
        writer=numpy_files.NpyWriter,
        read_back=numpy_files.read_npy,
        as_written=numpy_files.plain_rows,
        refusal=numpy_files.accept_all,
    ),
}
"""Name → how it is written and read back."""
