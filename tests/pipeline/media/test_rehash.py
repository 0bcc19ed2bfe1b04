"""A kept file that changed on disk makes no rows, whatever the damage does to its pictures."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.download.access.source import SourceSettings
from pipeline.download.fetch import fetch
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.media.media_file import Media
from storage.__main__ import main
from storage.base.errors import SystemicFault
from storage.base.paths import Layout
from storage.base.records import Video
from storage.catalog.catalog import Catalog, write_catalog
from storage.features.commit import request_retry
from storage.features.store import FeatureStore
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import coded_video

SINGLES = tiny_variant("singles", EveryFrame(), 1)


def _flip(content: bytes, other: bytes) -> bytes:
    """One bit of a coded picture: the file still decodes."""
    place = content.index(b"mdat") + 1000
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _zeros(content: bytes, other: bytes) -> bytes:
    return content[:200] + bytes(len(content) - 200)


def _another(content: bytes, other: bytes) -> bytes:
    """Another whole video, made as long by a box that players skip."""
    room = len(content) - len(other)
    return other + room.to_bytes(4, "big") + b"free" + bytes(room - 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    videos.mkdir()
    coded_video(videos / "v.mp4", 40)
    coded_video(tmp_path / "other.mp4", 9)
    return videos


def build(root: Path, folder: Path, *, retry: bool = False) -> str:
    layout, source = Layout(root, "tiny"), SourceSettings(str(folder))
    job = ShardJob(layout, 0, ("v",), (SINGLES,), 1_000_000)
    if retry:
        assert request_retry(job.variant_layout(SINGLES), 0, ("altered",)) == ("v",)

    def fetched(video_id: str, retried: bool) -> Media:
        return fetch(video_id, layout=layout, shard=0, source=source, retry=retried)

    process_shard(
        job, fetch=fetched, decoder=InlineDecoder(), device="cpu", on_video=lambda *_: None
    )
    manifest = job.manifest(SINGLES)
    assert manifest is not None
    return manifest.entries["v"].status.reason or "done"


@pytest.mark.parametrize("damage", [_flip, _zeros, _another])
def test_a_kept_file_that_changed_makes_no_rows(
    tmp_path: Path, folder: Path, damage: Callable[[bytes, bytes], bytes]
) -> None:
    assert build(tmp_path / "data", folder) == "done"
    expected = FeatureStore(tmp_path / "data" / "tiny")["singles"].digest()
    shutil.rmtree(tmp_path / "data" / "tiny" / "features")  # as if it were another extractor's turn
    path = folder / "v.mp4"
    whole = path.read_bytes()
    altered = damage(whole, (tmp_path / "other.mp4").read_bytes())
    assert len(altered) == len(whole)
    path.write_bytes(altered)
    assert build(tmp_path / "data", folder) == "altered"
    assert len(FeatureStore(tmp_path / "data" / "tiny")["singles"]) == 0
    path.write_bytes(whole)
    assert build(tmp_path / "data", folder, retry=True) == "done"
    assert FeatureStore(tmp_path / "data" / "tiny")["singles"].digest() == expected


def test_a_retry_takes_the_file_of_a_folder_as_it_is_now(tmp_path: Path, folder: Path) -> None:
    build(tmp_path / "data", folder)
    shutil.rmtree(tmp_path / "data" / "tiny" / "features")
    path = folder / "v.mp4"
    path.write_bytes(_another(path.read_bytes(), (tmp_path / "other.mp4").read_bytes()))
    assert build(tmp_path / "data", folder) == "altered"
    assert build(tmp_path / "data", folder, retry=True) == "done"
    assert FeatureStore(tmp_path / "data" / "tiny")["singles"]["v"].rows == 9


def _kept(tmp_path: Path, folder: Path) -> tuple[Layout, Path]:
    """A catalog of one video whose file lies beside its record, as one from a site does."""
    layout = Layout(tmp_path / "data", "tiny")
    write_catalog(layout, Catalog("tiny", (Video("v"),), (), (), (), 1, "seconds"))
    build(layout.root, folder)
    path = layout.media_file("v", 0, ".mp4")
    shutil.copy(folder / "v.mp4", path)
    return layout, path


def test_audit_compares_media_with_their_records(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, path = _kept(tmp_path, folder)
    record = layout.media_record("v", 0)
    assert main(["audit", "--media", str(layout.folder)]) == 0
    assert "media: 1 records, 1 files are there" in capsys.readouterr().out
    whole = path.read_bytes()
    path.write_bytes(_flip(whole, b""))
    assert (
        main(["audit", "--deep", str(layout.folder)]) == 0
    )  # its size is right, and nobody asked for more
    assert main(["audit", "--media", str(layout.folder)]) == 5
    assert f"{path}: was altered" in capsys.readouterr().out
    path.write_bytes(whole[:-1])
    assert main(["audit", str(layout.folder)]) == 5
    assert main(["audit", "--repair", str(layout.folder)]) == 0
    assert path.with_name(f"{path.name}.damaged").read_bytes() == whole[:-1]
    assert "1 files lie in a folder elsewhere" in capsys.readouterr().out
    record.write_bytes(record.read_bytes().replace(b'"suffix": ".mp4"', b'"suffix": ".mp5"'))
    assert main(["audit", str(layout.folder)]) == 5
    assert f"media record: {record}: is not a media record" in capsys.readouterr().out
    assert main(["audit", "--repair", str(layout.folder)]) == 0
    assert not record.exists()
    stray = record.with_name("v_stranger.000000.json")
    shutil.copy(record.with_name(f"{record.name}.damaged"), stray)
    assert main(["audit", str(layout.folder)]) == 5


def test_records_of_earlier_releases_are_told_and_sealed(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, path = _kept(tmp_path, folder)
    record = layout.media_record("v", 0)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    old = f'{{"asked": "x", "facts": {{}}, "sha256": "{sha256}", "size_bytes": {path.stat().st_size}, '
    record.write_text(old + '"state": "done", "suffix": ".mp4"}')
    assert main(["audit", "--media", str(layout.folder)]) == 0
    assert "1 records are of an earlier release" in capsys.readouterr().out
    assert main(["seal", str(layout.folder)]) == 0
    assert "1 media records were sealed" in capsys.readouterr().out
    assert main(["audit", "--media", str(layout.folder)]) == 0
    assert "earlier release" not in capsys.readouterr().out
    kept = fetch("v", layout=layout, shard=0, source=SourceSettings("http://127.0.0.1:9/{id}"))
    assert (kept.sha256, kept.was_hashed_earlier) == (sha256, True)
    path.unlink()
    assert main(["audit", str(layout.folder)]) == 0
    assert "1 files are gone" in capsys.readouterr().out
    with pytest.raises(SystemicFault, match="cannot be reached"):  # it is asked for anew
        fetch(
            "v",
            layout=layout,
            shard=0,
            source=SourceSettings("http://127.0.0.1:9/{id}", attempts=1),
        )
