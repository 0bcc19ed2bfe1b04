"""The documents are true: generated pages are current, links lead somewhere, examples run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.generate import pages
from pipeline.extraction.variant import Variant
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.base.records import (
    Annotation,
    Array,
    FeatureTrack,
    Group,
    Link,
    Ragged,
    User,
    Video,
)
from storage.base.video_status import DONE
from storage.catalog.catalog import Catalog, shard_of, write_catalog
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish
from tasks.config.exit_codes import Exit
from tasks.config.settings import load_settings
from tests.conftest import REPOSITORY
from tests.support.videos import coded_video

PAGES = pages()
README = (REPOSITORY / "README.md").read_text()
DOCS = sorted((REPOSITORY / "docs").rglob("*.md"))
CURRENT = [path for path in DOCS if path.parent.name != "decisions"]
"""Decisions keep the names of their time."""
VIDEO = "16WT8mzB-bM"
SAMPLE_SHARDS = 3


@pytest.mark.parametrize(("path", "content"), PAGES.items(), ids=list(PAGES))
def test_a_generated_page_is_current(path: str, content: str) -> None:
    assert (REPOSITORY / path).read_text() == content, "run `python -m docs.generate`"


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 200


def test_every_exit_code_is_explained() -> None:
    page = (REPOSITORY / "docs" / "reference" / "exit-codes.md").read_text()
    listed = re.findall(r"^\| (\d) \| ", page, flags=re.MULTILINE)
    assert [int(code) for code in listed] == sorted(Exit)


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (REPOSITORY / target).exists(), target


@pytest.mark.parametrize("path", [REPOSITORY / "README.md", *CURRENT], ids=lambda path: path.name)
def test_the_files_that_a_page_names_are_there(path: Path) -> None:
    folders = "docs|models|pipeline|storage|tasks|tests|trainer|benchmarks"
    for target in set(re.findall(rf"`((?:{folders})/[\w/.]+\.(?:py|md|toml))`", path.read_text())):
        is_placeholder = "NAME" in target
        assert is_placeholder or (REPOSITORY / target).exists(), target


def test_make_runs_exactly_the_front_door() -> None:
    recipe = (REPOSITORY / "Makefile").read_text().split("\nfeatures:")[1].splitlines()[1]
    assert recipe.endswith("&& luigi --module tasks BuildPHD2Features")


def test_fingerprints_are_those_that_the_sample_gets() -> None:
    made = {
        f"{variant.name}-{variant.fingerprint()}" for variant in load_settings("sample").variants
    }
    shown = {
        word
        for word in re.findall(r"\b[a-z0-9_]+-[0-9a-f]{12}\b", README)
        if "0123456789ab" not in word
    }
    assert shown == made, (
        "README.md shows the sample under the default settings: leave workflows.cfg as it is (see "
        "docs/how-to/add-an-extractor.md), or show the new fingerprints in README.md"
    )


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def examples() -> list[tuple[str, str]]:
    """Every Python example of the documents: where it stands, and its code."""
    found = []
    for path in [REPOSITORY / "README.md", *CURRENT]:
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [(f"{path.name}-{number}", block) for number, block in enumerate(blocks)]
    return found


@pytest.fixture(scope="module")
def documented_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what examples open: rows of one sample video that a user marked, a catalog of
    groups, and a video file.
    """
    folder = tmp_path_factory.mktemp("examples")
    layout = Layout(folder / "data", "sample")
    marked = Catalog(
        "sample",
        (Video(VIDEO),),
        (User("ann", "test"),),
        (Link("ann", VIDEO, "target"),),
        (Annotation(VIDEO, "ann", 1.0, 2.5),),
        SAMPLE_SHARDS,
        "seconds",
    )
    write_catalog(layout, marked)
    starts = np.arange(6, dtype=np.float64)
    spans = np.stack([starts, starts + 1], axis=1)
    rows: dict[str, dict[str, Array | Ragged]] = {
        "c3d": {"pool5": np.ones((6, 8192), np.float16)},
        "frames": {"jpeg": Ragged(np.zeros(12, np.uint8), np.full(6, 2))},
    }
    for variant in load_settings("sample").variants:
        if variant.name in rows:
            commit_rows(layout, variant, FeatureTrack(VIDEO, spans, rows[variant.name]))
    groups = (
        Group("domain", "dog", "v0"),
        Group("vlist_sel", "test", "v0"),
    )
    write_catalog(
        Layout(folder / "data", "youtube-highlights"),
        Catalog("youtube-highlights", (Video("v0"),), (), (), (), 1, "frames", groups=groups),
    )
    coded_video(folder / "clip.mp4", 24)
    return folder


def commit_rows(root: Layout, variant: Variant, track: FeatureTrack) -> None:
    """Write the rows of the sample video as a variant."""
    layout = root.variant(variant.name, variant.fingerprint())
    publish(layout.settings_file, readable_json(variant.description()), replace=False)
    commit(
        layout,
        "sample",
        shard_of(VIDEO, SAMPLE_SHARDS),
        entries={VIDEO: ManifestEntry(DONE)},
        tracks=[track],
        max_part_bytes=10**7,
        provenance={},
    )


@pytest.mark.parametrize(("place", "code"), examples())
def test_an_example_runs(
    place: str, code: str, documented_stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "to_pandas" in code:
        pytest.importorskip("pandas", reason="needs the extra `export`")
    monkeypatch.chdir(documented_stores)
    exec(compile(code, place, "exec"), {})  # noqa: S102  our own documents
