"""The folder of weights: fetched over a loopback site that breaks, imported, pinned, and used by
its name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch

from models.extractors.base.contract import ExtractorSpec
from models.extractors.base.sampling import EveryFrame
from models.extractors.c3d.network import LAYOUTS
from models.extractors.keypoint_rcnn.network import KeypointRCNN
from models.extractors.keypoint_rcnn.weights import expected_shapes
from models.extractors.tased.network import TasedNet
from models.extractors.yolov5.weights import expected_tensors
from models.weights import published
from pipeline.__main__ import main
from pipeline.download.http.transfer import OVERLAP_BYTES
from pipeline.extraction.variant import Variant
from pipeline.weights.weights_folder import (
    WeightsFolder,
    describe_weights,
    files_to_import,
    forget_advice,
    prepare_weights,
)
from storage.base.errors import IntegrityError, SettingsError, SystemicFault, UntrustedFile
from tests.conftest import REPOSITORY
from tests.support import official_checkpoints as official
from tests.support.loopback_site import serve
from tests.support.tiny_extractor import TinySettings

NAME = "yolov5nu.pt"
S3D_GOLDEN = REPOSITORY / "tests" / "models" / "goldens" / "tased_training.json"
SHAPES = expected_tensors("n", "u")


def content(value: float = 0.5, changes: Mapping[str, torch.Tensor] | None = None) -> bytes:
    """A file of that network, in half precision as published."""
    tensors = {name: torch.full(shape, value).half() for name, shape in SHAPES.items()}
    return official.saved(tensors | dict(changes or {}))


CONTENT = content()


class Site:
    """What is served, and how it goes wrong."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.tag = '"one"'
        self.break_after: int | None = None
        self.status = 200
        self.asked: list[str] = []
        self.address = ""


@contextmanager
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            served.asked.append(asked)
            fresh = self.headers.get("If-Range") == served.tag and asked
            start = int(asked.removeprefix("bytes=").rstrip("-")) if fresh else 0
            body = served.content[start:]
            self.send_response(206 if fresh else served.status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", served.tag)
            if fresh:
                self.send_header(
                    "Content-Range",
                    f"bytes {start}-{len(served.content) - 1}/{len(served.content)}",
                )
            self.end_headers()
            self.wfile.write(body[: served.break_after])

        def log_message(self, format: str, *args: object) -> None:
            """Tests read `asked`."""

    with serve(Handler) as address:
        served.address = f"{address}/{NAME}"
        yield served


def silent(so_far: int, total: int | None) -> None:
    """Progress that nobody watches."""


def folder_of(tmp_path: Path) -> WeightsFolder:
    return WeightsFolder(tmp_path / "weights")


def with_row(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setitem(
        published.PUBLISHED_WEIGHTS,
        NAME,
        dataclasses.replace(published.PUBLISHED_WEIGHTS[NAME], **changes),
    )


def test_a_download_that_breaks_off_goes_on_and_is_pinned(tmp_path: Path) -> None:
    folder, seen = folder_of(tmp_path), list[tuple[int, int | None]]()
    with site() as served:
        served.break_after = 70_000
        with pytest.raises(SystemicFault, match="it continues from there"):
            folder.fetch(NAME, silent, served.address)
        served.break_after = None
        file = folder.fetch(NAME, lambda *told: seen.append(told), served.address)
        assert served.asked == ["", f"bytes={70000 - OVERLAP_BYTES}-"]
        assert folder.fetch(NAME, silent, served.address) == file
        assert len(served.asked) == 2
    assert file.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    locked = json.loads(folder.lock_file.read_text())["weights"]
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert locked == {
        NAME: {"sha256": sha256, "size_bytes": len(CONTENT), "origin": served.address}
    }
    assert not list(folder.path.glob("*.part*"))


def test_another_version_is_not_glued_to_the_first_half(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with site() as served:
        served.break_after = 70_000
        with pytest.raises(SystemicFault):
            folder.fetch(NAME, silent, served.address)
        served.break_after, served.tag = None, '"two"'
        served.content = content(0.25)
        assert folder.fetch(NAME, silent, served.address).read_bytes() == served.content


def test_a_published_hash_decides_before_anything_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_row(monkeypatch, sha256="0" * 64)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nobody"))
    with site() as served, pytest.raises(IntegrityError, match="it is pinned to 0000"):
        folder_of(tmp_path).fetch(NAME, silent, served.address)
    assert not folder_of(tmp_path).file(NAME).exists()


def test_the_first_file_is_trusted_and_no_other(tmp_path: Path) -> None:
    folder, file = folder_of(tmp_path), tmp_path / NAME
    file.write_bytes(CONTENT)
    folder.add_file(NAME, file, "imported")
    file.write_bytes(content(0.0))
    with pytest.raises(IntegrityError, match="it is pinned to"):
        folder.add_file(NAME, file, "imported")
    assert folder.file(NAME).read_bytes() == CONTENT
    folder.file(NAME).write_bytes(CONTENT[:-1] + b"\1")
    with pytest.raises(IntegrityError, match="it is pinned to"):
        folder.resolve(NAME)


@pytest.mark.parametrize("page", [b"<html>sign in</html>", b"", b"PK\x03\x04 no zip"])
def test_a_page_is_never_pinned(page: bytes, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with site() as served:
        served.content = page
        with pytest.raises(UntrustedFile):
            folder.fetch(NAME, silent, served.address)
    assert not folder.lock_file.exists()
    assert [path for path in folder.path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("status", [404, 503])
def test_a_site_that_refuses_is_told_with_the_way_around_it(status: int, tmp_path: Path) -> None:
    with site() as served:
        served.status = status
        with pytest.raises(
            SystemicFault, match=f"answers {status}.*\n.*weights import FILE --name yolov5nu.pt"
        ):
            folder_of(tmp_path).fetch(NAME, silent, served.address)


def test_no_network_is_a_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        SystemicFault, match=r"cannot be reached.*\nIf there is no network here, download"
    ):
        folder_of(tmp_path).fetch(NAME, silent, "http://127.0.0.1:9/yolov5nu.pt")
    with pytest.raises(SystemicFault, match="published on a page for people"):
        folder_of(tmp_path).fetch("TASED_updated.pt", silent)


@pytest.mark.parametrize("name", ["yolov5n", "v6.0/yolov5n", "YOLOV5N.PT"])
def test_a_name_that_no_weights_have_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "some.pt").write_bytes(b"anything")
    with pytest.raises(
        SettingsError, match=f"no weights are called '{name}'; say which .* one of c3d.pickle"
    ):
        files_to_import(tmp_path / "some.pt", name)


def test_a_folder_is_imported_by_the_names_in_it(tmp_path: Path) -> None:
    for name in (NAME, "v7.0/yolov5n.pt", "other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT)
    assert [name for name, _ in files_to_import(tmp_path, "")] == ["v7.0/yolov5n.pt", NAME]
    with pytest.raises(SettingsError, match=r"one of v7.0/yolov5n.pt, v6.0/yolov5n.pt"):
        files_to_import(tmp_path / "v7.0" / "yolov5n.pt", "")
    assert files_to_import(tmp_path / "other.txt", NAME) == [(NAME, tmp_path / "other.txt")]
    with pytest.raises(SettingsError, match="there is no file"):
        files_to_import(tmp_path / "absent", "")


def test_a_wrong_file_of_a_folder_does_not_keep_the_right_ones_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "given" / "v7.0").mkdir(parents=True)
    for name in ("v7.0/yolov5n.pt", NAME):
        (tmp_path / "given" / name).write_bytes(CONTENT)
    (tmp_path / "given" / "TASED_updated.pt").write_bytes(b"<html>sign in</html>")
    arguments = [
        "import",
        str(tmp_path / "given"),
        "--accept-licence",
        "--weights-root",
        str(tmp_path / "weights"),
    ]
    assert main(["weights", *arguments]) == 1
    said = capsys.readouterr()
    assert f"{NAME} is at" in said.out
    assert "is not v7.0/yolov5n.pt, and is not taken" in said.err
    assert "TASED_updated.pt: is refused" in said.err
    assert json.loads(folder_of(tmp_path).lock_file.read_text())["weights"].keys() == {NAME}


def test_a_setting_names_a_file_or_a_row(tmp_path: Path) -> None:
    folder, file = folder_of(tmp_path), tmp_path / NAME
    file.write_bytes(CONTENT)
    assert folder.resolve(str(file)) == file
    with pytest.raises(
        ValueError, match=r"python -m pipeline weights fetch yolov5nu.pt --weights-root"
    ):
        folder.resolve(NAME)
    with pytest.raises(ValueError, match="are neither a file nor a published name"):
        folder.resolve("absent.pt")
    admitted = folder.add_file(NAME, file, "imported")
    assert folder.resolve(NAME) == admitted
    assert f"{NAME}  [yolov5, here]" in "\n".join(describe_weights(folder))


def test_networks_get_converted_files_only(tmp_path: Path) -> None:
    file, given = tmp_path / "mine.pt", list[str]()
    file.write_bytes(CONTENT)

    def build(_: TinySettings, weights: str, __: str) -> Any:
        given.append(weights)

    spec = ExtractorSpec(
        "tiny", 1, TinySettings, lambda _: {}, lambda _: EveryFrame(), build, needs_weights=True
    )
    variant = Variant("tiny", spec, TinySettings(), str(file))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert variant.description()["weights"] == f"sha256:{sha256}"
    variant.build("cpu")
    Variant("tiny", spec, TinySettings(), "random:3").build("cpu")
    assert given == [str(tmp_path / "converted" / f"{sha256}.safetensors"), "random:3"]
    file.write_bytes(CONTENT + b"x")
    with pytest.raises(IntegrityError, match="it is pinned to"):
        prepare_weights(str(file), f"sha256:{sha256}", None)


def test_the_command_asks_before_it_takes_what_binds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / NAME
    file.write_bytes(CONTENT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = main(["weights", *arguments, "--weights-root", str(tmp_path / "weights")])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    refused = run("import", str(file))
    assert (refused.returncode, "add --accept-licence" in refused.stderr) == (2, True)
    assert "AGPL-3.0" in refused.stdout
    done = run("import", str(file), "--accept-licence")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{NAME} is at" in done.stdout
    shown = run("list").stdout
    assert f"{NAME}  [yolov5, here]" in shown
    assert hashlib.sha256(CONTENT).hexdigest() in shown
    unknown = run("fetch", "c4d.pickle")
    assert (
        unknown.returncode,
        unknown.stderr.startswith("no weights are called 'c4d.pickle'"),
    ) == (2, True)
    elsewhere = tmp_path / "other.pt"
    elsewhere.write_bytes(content(0.25))
    wrong = run("import", str(elsewhere), "--name", NAME, "--accept-licence")
    command = f"python -m pipeline weights forget {NAME} --weights-root {tmp_path / 'weights'}"
    assert (wrong.returncode, command in wrong.stderr) == (1, True)
    forgotten = run("forget", NAME)
    assert (forgotten.returncode, "is not pinned any more" in forgotten.stdout) == (0, True)
    assert f"{NAME}  [yolov5, not here]" in run("list").stdout
    assert run("import", str(elsewhere), "--name", NAME, "--accept-licence").returncode == 0
    assert (tmp_path / "weights" / NAME).read_bytes() == elsewhere.read_bytes()
    again = run("forget", "c3d.pickle")
    assert (again.returncode, "nothing is pinned" in again.stderr) == (2, True)


OTHERS: dict[str, tuple[str, dict[str, torch.Tensor], str]] = {
    "another size": (
        "v7.0/yolov5s.pt",
        {},
        "size n and release u, but the settings name YOLOv5 of size s and release v7.0",
    ),
    "another release": (
        "v7.0/yolov5n.pt",
        {},
        "size n and release u, but the settings name YOLOv5 of size n and release v7.0",
    ),
    "another count of classes": (
        NAME,
        {f"model.24.cv3.{level}.2.{kind}": torch.zeros(20, *shape) for level in range(3) for kind, shape in
         (("weight", (80, 1, 1)), ("bias", ()))},
        "with 20 classes",
    ),
    "a tensor of another shape": (NAME, {"model.0.bn.bias": torch.zeros(17)}, r"model.0.bn.bias is \(17,\), expected"),
    "C3D's name": ("c3d.pickle", {}, "none of its 427 names is among the 22 of the network"),
    "the other C3D's name": ("c3d-pretrained.pth", {}, "none of its 427 names is among the 20 of the network"),
    "TASED-Net's name": ("TASED_updated.pt", {}, "none of its 427 names is among the 513 of the network"),
    "S3D's name": ("S3D_kinetics400.pt", {}, "is not S3D_kinetics400.pt, and is not taken"),
    "keypoint R-CNN's name": ("model_final_a6e10b.pkl", {}, "none of its 427 names is among the 313"),
    "the mean's name": ("sport1m_train16_128_mean.binaryproto", {}, "is not a BlobProto of a mean volume"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_another_networks_file_is_not_pinned(other: str, tmp_path: Path) -> None:
    name, changes, told = OTHERS[other]
    folder, file = folder_of(tmp_path), tmp_path / "file.pt"
    file.write_bytes(content(changes=changes))
    with pytest.raises(UntrustedFile, match=told):
        folder.add_file(name, file, "imported")
    assert [path for path in folder.path.rglob("*") if path.is_file()] == []


def test_a_file_that_fits_keeps_its_conversion_when_another_name_refuses_it(tmp_path: Path) -> None:
    folder, file = folder_of(tmp_path), tmp_path / NAME
    file.write_bytes(CONTENT)
    folder.add_file(NAME, file, "imported")
    kept = sorted(folder.converted.iterdir())
    with pytest.raises(UntrustedFile):
        folder.add_file("v7.0/yolov5n.pt", file, "imported")
    assert sorted(folder.converted.iterdir()) == kept


def test_a_wrong_pin_of_an_earlier_version_is_told_with_the_way_out(tmp_path: Path) -> None:
    """Names and shapes were not looked at when it was pinned."""
    folder, file = folder_of(tmp_path), tmp_path / NAME
    file.write_bytes(CONTENT)
    folder.add_file(NAME, file, "imported")
    assert forget_advice(str(file)) == "", "a file of its own"
    told = forget_advice(str(folder.file(NAME)))
    assert f"`python -m pipeline weights forget {NAME} --weights-root {folder.path}`" in told
    assert folder.forget(NAME) == folder.file(NAME)
    with pytest.raises(
        SettingsError, match=r"there is nothing to forget of yolov5nu\.pt in .*: nothing is pinned"
    ):
        folder.forget(NAME)
    assert json.loads(folder.lock_file.read_text())["weights"] == {}


def shapes_under(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what is published under a registered name of a large network."""
    with torch.device("meta"):
        if name == "model_final_a6e10b.pkl":
            return expected_shapes(KeypointRCNN())
        if name.startswith("c3d"):
            return dict(next(layout.shapes for layout in LAYOUTS if layout.name == name))
        tased = {key: tuple(tensor.shape) for key, tensor in TasedNet().state_dict().items()}
    if name == "TASED_updated.pt":
        return {f"module.{key}": shape for key, shape in tased.items()}
    return {
        key: tuple(shape) for key, shape in json.loads(S3D_GOLDEN.read_text())["s3d_shapes"].items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "TASED_updated.pt",
        "S3D_kinetics400.pt",
        pytest.param("model_final_a6e10b.pkl", marks=pytest.mark.slow),
        pytest.param("c3d.pickle", marks=pytest.mark.slow),
        pytest.param("c3d-pretrained.pth", marks=pytest.mark.slow),
    ],
)
def test_the_right_file_of_every_network_is_taken(name: str, tmp_path: Path) -> None:
    """Up to half a gigabyte is written and read. With a tensor less it is refused."""
    shapes, folder, file = shapes_under(name), folder_of(tmp_path), tmp_path / "file.pt"
    tensors = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
    file.write_bytes(official.saved(tensors))
    assert folder.add_file(name, file, "imported") == folder.file(name)
    folder.forget(name)
    del tensors[next(key for key in tensors if key.endswith("weight"))]
    file.write_bytes(official.saved(tensors))
    with pytest.raises(UntrustedFile, match="is missing"):
        folder.add_file(name, file, "imported")
    assert folder.pin(name) is None
