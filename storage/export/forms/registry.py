"""The forms of export: one row for each."""

from __future__ import annotations

from collections.abc import Mapping

from storage.export.forms import numpy_files, parquet, webdataset, zarr_groups
from storage.export.forms.contract import ExportFormat

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
        refusal=numpy_files.refuse_spans,
    ),
    "parquet": ExportFormat(
        description="Parquet files, one row for each stored row",
        opened_with='pandas.read_parquet("VARIANT")',
        writer=parquet.ParquetWriter,
        read_back=parquet.read_parquet,
        as_written=parquet.parquet_rows,
        refusal=parquet.refuse_columns,
        libraries=("pyarrow",),
    ),
    "webdataset": ExportFormat(
        description="tar files with one sample for each video",
        opened_with='webdataset.WebDataset("shard-000000.tar", shardshuffle=False).decode()',
        writer=webdataset.TarWriter,
        read_back=webdataset.read_tars,
        as_written=numpy_files.plain_rows,
        refusal=numpy_files.refuse_spans,
    ),
    "zarr": ExportFormat(
        description="Zarr v3, one group for each variant",
        opened_with='zarr.open_group(".", mode="r")["VARIANT/ARRAY"][:10]',
        writer=zarr_groups.ZarrWriter,
        read_back=zarr_groups.read_zarr,
        as_written=numpy_files.plain_rows,
        refusal=zarr_groups.refuse_names,
        libraries=("zarr",),
    ),
    "hf": ExportFormat(
        description="Parquet files with a data set card, for Hugging Face datasets",
        opened_with='datasets.load_dataset(".", "VARIANT", split="train")',
        writer=parquet.ParquetWriter,
        read_back=parquet.read_parquet,
        as_written=parquet.parquet_rows,
        refusal=parquet.refuse_columns,
        data_files=parquet.hub_files,
        libraries=("pyarrow",),
    ),
}
"""Name → how it is written and read back."""
