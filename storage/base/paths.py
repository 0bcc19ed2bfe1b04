"""The layout of a data root: the only module that builds a file name.

    ROOT/<catalog>/
        catalog.json, {videos,users,links,annotations,groups}.csv
        sources/                              annotation files as published
        videos/012/v_<id>.<hash>.mp4, .json   media, and the record of how each was fetched
        features/<variant>-<fingerprint>/
            settings.json                     everything that shaped the rows
            shard_012.p000.h5                 an immutable part: rows of some videos
            shard_012.p000.sums               checksums of the part's blocks
            shard_012.json                    the shard's manifest, the only file ever replaced
            index.bin                         a summary of all manifests, to open them quickly
            spool/012/                        finished videos that wait for their part
        scores/<run>/run.json, scores.<hash>.h5
        leases/shard_012.lease
        exports.json, exports/<12 hex digits>.txt   exports that were made, and the ids in each
        report/, runs/, cluster/
        forgotten.json                        hashes of the ids that were taken down
        forgetting/                           the catalog without them, while it is rewritten
    ROOT/egress/<12 hex digits>/              rate limit shared by all processes, for one site
    ROOT/weights/                             published and converted weights, and their pins
    ROOT/proofs/                              passed self-tests of extractors

Nothing that comes from a video (title, address) ever becomes a file name: only checked ids do.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from storage.base.records import VIDEO_ID

VARIANT_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
"""`c3d`, or `c3d.segments`: an extractor, or an extractor and the user's word for its settings."""

RUN_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,95}")
"""A run of a model over a catalog: `phd-ca.seed3`."""

_STEM = re.compile(r"v_([A-Za-z0-9_-]{1,64})\.([0-9a-f]{6})")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/.*", re.DOTALL)
"""`s3://bucket/key`; also `s3:/bucket/key`, which pathlib makes of it."""

_VARIANT_FOLDER = re.compile(rf"({VARIANT_NAME.pattern})-([0-9a-f]{{12}})")
_CHECKSUMS_FILE = re.compile(r"(shard_[0-9]{3,}\.p[0-9]{3,})\.sums")
# Three digits or more: a catalog may be given more than 1,000 shards.
_SHARD_FILE = re.compile(r"shard_([0-9]{3,})(?:\.json|\.p([0-9]{3,})\.h5)")


def folder_faults(place: str) -> tuple[str, ...]:
    """What is wrong with `place` as the data root, as the rest of a sentence; empty if nothing is.

    The folder need not exist yet.
    """
    # pathlib would take it for a relative path, and make a folder named `s3:`.
    if url := _URL.fullmatch(place):
        return (
            f"is an address of {url[1]}, got {place!r}; features are kept in files that are "
            "locked, renamed and mapped into memory: name a folder of this machine, or of a file "
            "system that is mounted here",
        )
    if not place.strip():
        return ("is empty; name a folder",)
    if place.startswith("~"):
        return (
            f"is {place!r}, which only a shell understands; write that folder out, or ${{HOME}} in "
            "workflows.cfg",
        )
    try:
        nearest = _nearest_existing(Path(place).absolute())
        if not nearest.is_dir():
            return (f"is not a folder: {nearest} is a file",)
    except OSError as error:
        return (
            f"{place!r} cannot be looked at: {error.strerror}; name a folder that you may write to",
        )
    return ()


def _nearest_existing(path: Path) -> Path:
    """The path itself if it exists, else the nearest folder above it that does."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def video_stem(video_id: str) -> str:
    """File name stem of a video.

    It never starts with `-`, and stems of ids that differ only in case differ on every file system.
    """
    if not VIDEO_ID.fullmatch(video_id):
        raise ValueError(f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {video_id!r}")
    # The prefix keeps a leading `-` from looking like an option of a program. The hash separates
    # `abc` and `ABC` on file systems that ignore case.
    return f"v_{video_id}.{hashlib.sha256(video_id.encode()).hexdigest()[:6]}"


def id_in_name(file_name: str) -> str | None:
    """The id whose `video_stem` is in a file's name, wherever it stands; None if none is."""
    match = _STEM.search(file_name)
    return match[1] if match and video_stem(match[1]) == match[0] else None


def parse_variant(folder_name: str) -> tuple[str, str] | None:
    """The variant and fingerprint in a folder's name; None for any other folder."""
    match = _VARIANT_FOLDER.fullmatch(folder_name)
    if match is None:
        return None
    # The variant's own pattern has a group too, so the fingerprint's is the last.
    return match[1], match[match.re.groups]


def shard_and_number(file_name: str) -> tuple[int, int | None] | None:
    """The shard of a manifest or part, and the part's number; None for any other file.

    A manifest has the number None.
    """
    match = _SHARD_FILE.fullmatch(file_name)
    if match is None:
        return None
    number = match[2]
    return int(match[1]), None if number is None else int(number)


def part_of_checksums(file_name: str) -> str | None:
    """The name of the part that a checksum file is about; None for any other file."""
    match = _CHECKSUMS_FILE.fullmatch(file_name)
    return f"{match[1]}.h5" if match else None


def part_number(file_name: str) -> int:
    """The number in a part's name; -1 for any other name, which sorts before all parts."""
    parsed = shard_and_number(file_name)
    return -1 if parsed is None or parsed[1] is None else parsed[1]


@dataclass(frozen=True)
class VariantLayout:
    """Files of one variant: one extractor with one group of settings."""

    folder: Path
    variant: str
    fingerprint: str

    @property
    def settings_file(self) -> Path:
        """Everything that shaped the bytes, as JSON."""
        return self.folder / "settings.json"

    @property
    def index_file(self) -> Path:
        """A summary of all manifests, from which it can be rebuilt at any time."""
        return self.folder / "index.bin"

    def manifest(self, shard: int) -> Path:
        """The shard's manifest: parts, their sha256, one status per id, provenance."""
        return self.folder / f"shard_{shard:03d}.json"

    def part(self, shard: int, number: int) -> Path:
        """An immutable HDF5 file with some of the shard's videos."""
        return self.folder / f"shard_{shard:03d}.p{number:03d}.h5"

    def checksums(self, part_file: str) -> Path:
        """The checksums of the blocks of a part, which is given by its name."""
        return (self.folder / part_file).with_suffix(".sums")

    def spool(self, shard: int) -> Path:
        """Folder of finished videos that wait for their part."""
        return self.folder / "spool" / f"{shard:03d}"


@dataclass(frozen=True)
class Layout:
    """Files of one catalog below a data root."""

    root: Path
    catalog: str

    @property
    def folder(self) -> Path:
        """The catalog's own folder: what `FeatureStore` opens."""
        return self.root / self.catalog

    def egress(self, key: str) -> Path:
        """Folder of the rate limit that all processes share for a site; `key` is 12 hex digits."""
        if not re.fullmatch(r"[0-9a-f]{12}", key):
            raise ValueError(f"an egress is named with 12 hex digits, got {key!r}")
        return self.root / "egress" / key

    @property
    def weights(self) -> Path:
        """Published weights, shared by all catalogs."""
        return self.root / "weights"

    @property
    def self_tests(self) -> Path:
        """One small file for each extractor that passed its self-test in one environment."""
        return self.root / "proofs"

    @property
    def catalog_file(self) -> Path:
        """Header of the catalog, written after its tables."""
        return self.folder / "catalog.json"

    def table(self, name: str) -> Path:
        """One CSV table of the catalog: videos, users, links, annotations or groups."""
        return self.folder / f"{name}.csv"

    @property
    def sources(self) -> Path:
        """Annotation files as they were published."""
        return self.folder / "sources"

    @property
    def links(self) -> Path:
        """A link to each file of a user's own videos, named by its id."""
        return self.sources / "links"

    def media_folder(self, shard: int) -> Path:
        """Downloaded videos of one shard."""
        return self.folder / "videos" / f"{shard:03d}"

    def media_record(self, video_id: str, shard: int) -> Path:
        """The record of fetching this video's file."""
        return self.media_folder(shard) / f"{video_stem(video_id)}.json"

    def media_file(self, video_id: str, shard: int, suffix: str) -> Path:
        """The video's file; `suffix` includes the dot."""
        return self.media_folder(shard) / f"{video_stem(video_id)}{suffix}"

    def lease(self, shard: int) -> Path:
        """The lock file that names the process which builds the shard."""
        return self.folder / "leases" / f"shard_{shard:03d}.lease"

    def in_flight(self, shard: int) -> Path:
        """Which videos of the shard were begun, the latest last.

        It shows which video a worker was processing when it died.
        """
        return self.folder / "leases" / f"shard_{shard:03d}.begun"

    @property
    def forgotten_file(self) -> Path:
        """Hashes of the ids that were taken down, so that no catalog brings them back."""
        return self.folder / "forgotten.json"

    @property
    def forgetting(self) -> Layout:
        """Where the catalog without forgotten videos is written before it replaces this one."""
        return Layout(self.folder / "forgetting", self.catalog)

    @property
    def forgetting_lease(self) -> Path:
        """The lock file of the one process that takes videos down."""
        return self.folder / "leases" / "forgetting.lease"

    @property
    def exports_file(self) -> Path:
        """The exports that were made of this store."""
        return self.folder / "exports.json"

    def export_ids(self, key: str) -> Path:
        """The ids that one export holds, one on each line; `key` is 12 hex digits."""
        if not re.fullmatch(r"[0-9a-f]{12}", key):
            raise ValueError(f"an export is named with 12 hex digits, got {key!r}")
        return self.export_ids_folder / f"{key}.txt"

    @property
    def export_ids_folder(self) -> Path:
        """The lists of ids of all exports."""
        return self.folder / "exports"

    @property
    def cluster(self) -> Path:
        """Scripts and logs of a cluster's jobs."""
        return self.folder / "cluster"

    @property
    def features(self) -> Path:
        """One folder per variant lies here."""
        return self.folder / "features"

    def variant(self, variant: str, fingerprint: str) -> VariantLayout:
        """Files of one extractor with one group of settings."""
        if not VARIANT_NAME.fullmatch(variant):
            raise ValueError(f"a variant is named like 'c3d' or 'c3d.segments', got {variant!r}")
        return VariantLayout(self.features / f"{variant}-{fingerprint}", variant, fingerprint)

    def retry_marker(self, run_name: str) -> Path:
        """Marks that a run has asked for its retries."""
        return self._build(run_name) / "retry.json"

    def recheck_marker(self, run_name: str) -> Path:
        """Marks that a run has asked again for the videos whose files have changed."""
        return self._build(run_name) / "looked_again.json"

    @property
    def runs(self) -> Path:
        """One folder per run, of features or of a model."""
        return self.folder / "runs"

    def _build(self, run_name: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9]{1,32}", run_name):
            raise ValueError(f"a run is named with 1 to 32 letters and digits, got {run_name!r}")
        return self.runs / run_name

    def shard_times(self, run_name: str, shard: int) -> Path:
        """Where the time of one shard went in one run."""
        return self._build(run_name) / "times" / f"shard_{shard:03d}.json"

    def run_times(self, run_name: str) -> Path:
        """Where the time of a whole run went."""
        return self._build(run_name) / "time.json"

    def run(self, run: str) -> Path:
        """Folder of a model's training."""
        return self.runs / _run_name(run)

    def scores(self, run: str) -> Path:
        """Folder of the scores that one run of a model gave."""
        return self.folder / "scores" / _run_name(run)

    @property
    def report(self) -> Path:
        """Summaries and pictures made from the store."""
        return self.folder / "report"


def _run_name(run: str) -> str:
    if not RUN_NAME.fullmatch(run):
        raise ValueError(
            f"a run is named like 'phd_ca-seed3', in 1 to 96 of a-z 0-9 _ . -, got {run!r}"
        )
    return run
