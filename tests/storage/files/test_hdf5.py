from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from storage.base.errors import IntegrityError, UntrustedFile
from storage.features.part_writer import PartReader, part_image
from storage.files.hdf5 import ArrayToWrite, file_image, read_layout
from tests.support.feature_samples import HEADER, make_track

TRACKS = [make_track("a", 5), make_track("b", 9)]


def rewrite(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """A sound part, changed by somebody who means harm."""
    path.write_bytes(part_image(path, HEADER, TRACKS, {}))
    with h5py.File(path, "r+", libver=("earliest", "latest")) as file:
        change(file)
    return path


def replaced(name: str, make: Callable[[h5py.File, str], object]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        make(file, name)

    return change


def elsewhere(file: h5py.File, name: str) -> None:
    canary = Path(file.filename).with_name("canary")
    canary.write_bytes(b"\x01" * 4096)
    file.create_dataset(name, (14, 6), "f2", external=[(str(canary), 0, 168)])


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((14, 6), "f2")
    layout[:] = h5py.VirtualSource(Path(file.filename).with_name("other.h5"), "x", (14, 6), "f2")
    file.create_virtual_dataset(name, layout)


def bomb(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (14, 1 << 38), "u1", chunks=(1, 1 << 20))


def huge_contiguous(file: h5py.File, name: str) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.STD_U8LE, h5py.h5s.create_simple((14, 1 << 38)), plan
    )


def deep(file: h5py.File) -> None:
    file.create_group("arrays/a/b/c/d")


POOL5 = "arrays/pool5"
ATTACKS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "external storage": (replaced(POOL5, elsewhere), "keeps its numbers in another file"),
    "external link": (
        replaced(POOL5, lambda f, n: f.__setitem__(n, h5py.ExternalLink("o.h5", "/x"))),
        "link to somewhere",
    ),
    "soft link": (
        replaced(POOL5, lambda f, n: f.__setitem__(n, h5py.SoftLink("/spans"))),
        "link to somewhere",
    ),
    "virtual dataset": (replaced(POOL5, virtual), "chunked, compact or virtual"),
    "text of any length": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, (14,), h5py.string_dtype())),
        "neither plain numbers",
    ),
    "lists of any length": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, (14,), h5py.vlen_dtype(np.int8))),
        "neither plain numbers",
    ),
    "references": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, (14,), h5py.ref_dtype)),
        "neither plain numbers",
    ),
    "compound": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, (14,), "i4,f4")),
        "neither plain numbers",
    ),
    "gzip": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, (14, 6), "f2", compression="gzip")),
        "has a filter",
    ),
    "chunks": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, (14, 6), "f2", chunks=(7, 6))),
        "chunked, compact",
    ),
    "4 TB in chunks": (replaced(POOL5, bomb), "chunked, compact or virtual"),
    "4 TB claimed": (replaced(POOL5, huge_contiguous), "which the file does not hold"),
    "4 TB of ids": (replaced("ids", huge_contiguous), "which the file does not hold"),
    "no shape": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, data=h5py.Empty("f4"))),
        "has the shape None",
    ),
    "a scalar": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, data=1.0)),
        r"has the shape \(\)",
    ),
    "many groups": (
        lambda f: [f.create_group(f"arrays/g{i}") for i in range(100)],
        "holds 102 names|103 names",
    ),
    "deep groups": (deep, "at depth 3"),
    "a loop": (lambda f: f.__setitem__("arrays/loop", f["/"]), "we write them on the root only"),
    "a named type": (
        lambda f: f.__setitem__("arrays/kind", np.dtype("f4")),
        "neither an array nor a group",
    ),
    "a foreign array": (
        lambda f: f.create_dataset("extra", data=[1]),
        "holds .*'extra'.*, a part holds",
    ),
    "a missing table": (lambda f: f.__delitem__("digests"), "a part holds"),
    "text as an array": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, data=np.array([b"x"] * 14))),
        "not an array of a part",
    ),
    "rows too few": (
        replaced(POOL5, lambda f, n: f.create_dataset(n, data=np.zeros((13, 6)))),
        "13 rows, the part has 14",
    ),
    "values alone": (lambda f: f.__delitem__("arrays/boxes/offsets"), "values without offsets"),
    "offsets alone": (lambda f: f.__delitem__("arrays/boxes/values"), "has offsets without values"),
    "spans of float32": (
        replaced("spans", lambda f, n: f.create_dataset(n, data=np.zeros((14, 2), "f4"))),
        "spans is float32",
    ),
    "offsets that fall": (
        replaced("offsets", lambda f, n: f.create_dataset(n, data=[0, 14, 14])),
        "do not rise",
    ),
    "offsets too far": (
        replaced("offsets", lambda f, n: f.create_dataset(n, data=[0, 5, 15])),
        "do not rise",
    ),
    "ids twice": (
        replaced("ids", lambda f, n: f.create_dataset(n, data=np.array([b"a", b"a"]))),
        "valid, distinct and ascending",
    ),
    "an id with a path": (
        replaced("ids", lambda f, n: f.create_dataset(n, data=np.array([b"../a", b"b"]))),
        "valid, distinct",
    ),
    "a big attribute": (
        lambda f: f.attrs.__setitem__("catalog", np.bytes_(b"x" * 5000)),
        "takes 5,000 bytes",
    ),
    "an array attribute": (
        lambda f: f.attrs.__setitem__("catalog", np.zeros(9)),
        "neither one number nor one text",
    ),
    "a text attribute of any length": (
        lambda f: f.attrs.__setitem__("catalog", "x"),
        "neither one number nor one text",
    ),
    "many attributes": (
        lambda f: [f.attrs.__setitem__(f"a{i}", 1) for i in range(30)],
        "has 37 attributes",
    ),
    "an attribute too many": (lambda f: f.attrs.__setitem__("more", 1), "not those of a part"),
    "an attribute on an array": (
        lambda f: f["spans"].attrs.__setitem__("x", 1),
        "we write them on the root only",
    ),
    "another version": (
        lambda f: f.attrs.__setitem__("format_version", 3),
        "of a version that this release",
    ),
    "another origin": (
        lambda f: f.attrs.__setitem__("time_origin", np.bytes_(b"noon")),
        "its times count from .noon.",
    ),
    "no origin": (lambda f: f.attrs.__delitem__("time_origin"), "its times count from None"),
    "a wrong attribute": (
        lambda f: f.attrs.__setitem__("shard", np.bytes_(b"3")),
        "not those of a part",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_our_format_never_asks_for_is_refused(tmp_path: Path, name: str) -> None:
    change, message = ATTACKS[name]
    path = rewrite(tmp_path / "part.h5", change)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntegrityError, match=message):
        PartReader(path).ids()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100 * 1024


def test_an_unchanged_part_passes_so_the_refusals_are_about_the_attacks(tmp_path: Path) -> None:
    assert PartReader(rewrite(tmp_path / "part.h5", lambda file: None)).ids() == ("a", "b")


@pytest.mark.parametrize(
    ("offsets", "asked"), [([0, 3, 2], (0, 2)), ([0, 99, 99], (0, 1)), ([-1, 2, 3], (0, 1))]
)
def test_ragged_offsets_are_checked_when_they_are_used(
    tmp_path: Path, offsets: list[int], asked: tuple[int, int]
) -> None:
    def change(file: h5py.File) -> None:
        file["arrays/boxes/offsets"][:3] = offsets

    with pytest.raises(IntegrityError, match=r"offsets of boxes leave its \d+ items"):
        PartReader(rewrite(tmp_path / "part.h5", change)).table.rows("boxes", *asked)


def test_a_float_of_home_made_layout_is_refused(tmp_path: Path) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)

    def make(file: h5py.File, name: str) -> None:
        h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((14, 6)))

    with pytest.raises(UntrustedFile, match="in a layout that numpy does not have"):
        read_layout(rewrite(tmp_path / "part.h5", replaced(POOL5, make)))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x89HDF\r\n\x1a\n", b"\x00" * 4096, b"RIFF" * 999]
)
def test_what_is_no_hdf5_file_is_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part.h5"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"is not an HDF5 file|bytes, its header says"):
        PartReader(path).ids()


def test_bytes_after_the_end_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    path.write_bytes(part_image(path, HEADER, TRACKS, {}) + b"payload")
    with pytest.raises(IntegrityError, match=r"bytes, its header says \d"):
        PartReader(path).ids()


def test_pieces_that_do_not_fill_their_array_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="the pieces hold 2 rows, the shape says 3"):
        file_image({}, {"x": ArrayToWrite(np.uint8, (3,), [np.zeros(2, np.uint8)])})
