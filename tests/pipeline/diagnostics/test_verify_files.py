"""Rows of segments are recomputed from settings.json, a file it names, catalog and media."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from models.extractors.c3d.mean_volume import SHAPE
from models.extractors.c3d.settings import C3DSettings
from models.extractors.c3d.spec import SPEC
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.diagnostics.store_variant import open_variant, variant_of_store
from pipeline.diagnostics.verify import VerifyOptions, verify_sample
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import IntegrityError, SettingsError
from storage.base.paths import Layout
from storage.base.records import Annotation, Video
from storage.catalog.catalog import Catalog, write_catalog
from storage.features.store import VariantReader
from tests.models.extractors.test_c3d_mean_volume import blob
from tests.models.goldens import formula
from tests.support.videos import coded_video

MEAN = "sport1m_train16_128_mean.binaryproto"
KNOWN = Catalog(
    "tiny",
    (Video("v", None, 40, 40),),
    (),
    (),
    (Annotation("v", "one", 0, 30), Annotation("v", "two", 5, 12), Annotation("v", "two", 90, 99)),
    1,
    "frames",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, VariantReader, Path]:
    """A store of one video's segments, and the mean file that its settings named, outside of it."""
    folder = tmp_path_factory.mktemp("files")
    layout, mean = Layout(folder / "data", "tiny"), folder / "mine.binaryproto"
    mean.write_bytes(blob(100 + 30 * formula.scattered("mean", int(np.prod(SHAPE))).reshape(SHAPE)))
    layout.sources.mkdir(parents=True)
    path = coded_video(layout.sources / "v.mp4", 40, "-pix_fmt", "yuv420p", "-bf", "2")
    write_catalog(layout, KNOWN)
    settings = C3DSettings(arrays=("fc6",), sampling="segments_released", mean=str(mean))
    variant = Variant("c3d.segments", SPEC, settings, "random:0").of_catalog(lambda: KNOWN.segments)
    process_shard(
        ShardJob(layout, 0, ("v",), (variant,), 10**6),
        fetch=lambda *_: Media(
            path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        ),
        decoder=InlineDecoder(),
        device="cpu",
        on_video=lambda *_: None,
    )
    return layout, open_variant(layout.variant(variant.name, variant.fingerprint()).folder), mean


def test_rows_of_segments_are_made_anew_with_the_file_that_the_weights_folder_holds(
    made: tuple[Layout, VariantReader, Path],
) -> None:
    layout, reader, mean = made
    choice = VerifyOptions(20, 0, "", layout.weights, {}, [], "cpu")
    with pytest.raises(SettingsError, match=r"mean is a file of sha256:.*; give --file mean=PATH"):
        verify_sample(reader, choice)
    WeightsFolder(layout.weights).add_file(MEAN, mean, "imported")
    found = {one.name: one for one in verify_sample(reader, choice).comparisons}
    assert {name: (one.rows, one.equal, one.differing) for name, one in found.items()} == {
        "spans": (2, 2, []), "fc6": (2, 2, []), "segment": (2, 2, []),
    }  # fmt: skip


def test_a_file_named_by_hand_goes_before_and_must_be_the_one(
    made: tuple[Layout, VariantReader, Path], tmp_path: Path
) -> None:
    layout, reader, mean = made
    folder = WeightsFolder(tmp_path / "empty")
    assert (
        variant_of_store(reader, folder, "", {"mean": str(mean)}).fingerprint()
        == reader.layout.fingerprint
    )
    other = tmp_path / "other.binaryproto"
    other.write_bytes(mean.read_bytes() + b"\x00")
    with pytest.raises(SettingsError, match="cannot be made again: settings: "):
        variant_of_store(reader, folder, "", {"mean": str(other)})
    with pytest.raises(SettingsError, match="--file names meen; settings are arrays, mean, mirror"):
        variant_of_store(reader, folder, "", {"meen": str(mean)})
    assert layout.catalog == "tiny"


def test_an_altered_file_under_the_registered_name_is_told(
    made: tuple[Layout, VariantReader, Path], tmp_path: Path
) -> None:
    _, reader, mean = made
    folder = WeightsFolder(tmp_path / "weights")
    folder.add_file(MEAN, mean, "imported").write_bytes(b"something else")
    with pytest.raises(IntegrityError, match="it is pinned to"):
        variant_of_store(reader, folder, "", {})


def test_other_annotations_cannot_make_the_rows_again(
    made: tuple[Layout, VariantReader, Path],
) -> None:
    layout, reader, mean = made
    write_catalog(layout, dataclasses.replace(KNOWN, annotations=KNOWN.annotations[:-1]))
    try:
        with pytest.raises(
            SettingsError, match=r"cannot be made again: segments: .*stored, .* here"
        ):
            variant_of_store(reader, WeightsFolder(layout.weights), "", {"mean": str(mean)})
    finally:
        write_catalog(layout, KNOWN)
