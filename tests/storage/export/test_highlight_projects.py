"""The dataset classes of UMT and lighthouse read our `.npz` files.

No package has them: name a checkout of each in LIGHTHOUSE_CHECKOUT and UMT_CHECKOUT. UMT needs
nncore too, installed or in the folder NNCORE_FOLDER. Their code runs in a process of its own, from those folders; nothing of it is kept here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout
from storage.base.records import Array, FeatureTrack, Video
from storage.base.video_status import DONE
from storage.catalog.catalog import Catalog, write_catalog
from storage.export.run import ExportRequest, export_store
from storage.export.source.selection import SelectionRequest
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish

DURATIONS = {"a149_9": 149.9, "b150_0": 150.0, "c150_1": 150.1}
CLIPS = {"a149_9": 75, "b150_0": 75, "c150_1": 76}
"""What the files hold; lighthouse takes the first 75."""
WIDTHS = {"c3d": 6, "frames_mean": 4}
ROW_SECONDS = {"c3d": 16 / 30, "frames_mean": 0.5}

LIGHTHOUSE = """
import json, sys
from dataset import StartEndDataset, start_end_collate
data = StartEndDataset(
    "qvhighlight", None, sys.argv[1], sys.argv[4:], [], sys.argv[2], v_feat_types="ours",
    a_feat_types=None, ctx_mode="video_tef",
)
items = [data[number] for number in range(len(data))]
meta, batch = start_end_collate(items)
print(json.dumps({
    "class": StartEndDataset.__name__,
    "videos": {item["meta"]["vid"]: item["model_inputs"]["video_feat"].tolist() for item in items},
    "batch": list(batch["video_feat"][0].shape), "mask": batch["video_feat"][1].sum(1).tolist(),
}))
"""
UMT = """
import importlib, json, sys, types
# Its package is called `datasets`, and its __init__ wants torchtext for another data set.
package = types.ModuleType("umt_datasets")
package.__path__ = [sys.argv[5] + "/datasets"]
sys.modules["umt_datasets"] = package
QVHighlights = importlib.import_module("umt_datasets.qvhighlights").QVHighlights
data = QVHighlights(sys.argv[1], sys.argv[6:], sys.argv[3], sys.argv[2])
found = {}
for number, label in enumerate(data.label):
    item = data[number]
    found[label["vid"]] = {
        name: item[name].data.tolist() for name in ("video", "audio", "saliency")
    }
print(json.dumps({"class": QVHighlights.__name__, "videos": found}))
"""


def checkout(variable: str, address: str) -> Path:
    folder = os.environ.get(variable, "")
    if not folder:
        pytest.skip(
            f"LOUD SKIP: {variable} names no checkout of {address}; its own dataset class is not run"
        )
    return Path(folder)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Two variants of three videos of about 150 s, whose last rows end at different times."""
    root = tmp_path / "data"
    write_catalog(
        Layout(root, "qv"),
        Catalog("qv", tuple(map(Video, DURATIONS)), (), (), (), 1, "seconds"),
    )
    for number, (variant, width) in enumerate(WIDTHS.items()):
        settings = {"extractor": variant}
        layout = Layout(root, "qv").variant(variant, fingerprint(settings))
        publish(layout.settings_file, readable_json(settings), replace=False)
        tracks, entries = [], {}
        for video_id, duration in DURATIONS.items():
            rows = int(duration / ROW_SECONDS[variant])
            starts = np.arange(rows) * ROW_SECONDS[variant]
            values = np.random.default_rng(number + rows).normal(size=(rows, width))
            spans = np.stack([starts, starts + ROW_SECONDS[variant]], axis=1)
            tracks.append(FeatureTrack(video_id, spans, {"fc": values.astype(np.float16)}))
            entries[video_id] = ManifestEntry(DONE, facts={"decode": {"end_seconds": duration}})
        commit(layout, "qv", 0, entries=entries, tracks=tracks, max_part_bytes=10**7, provenance={})
    for form in ("npz", "npy"):
        what = SelectionRequest(clip_seconds=2.0)
        export_store(ExportRequest(root / "qv", tmp_path / form, form, what))
    return tmp_path


@pytest.fixture
def labels(tmp_path: Path) -> tuple[Path, Path]:
    """Labels as QVHighlights publishes them, and drawn features of the queries."""
    lines, queries = [], tmp_path / "queries"
    queries.mkdir()
    for qid, video_id in enumerate(DURATIONS):
        clips = [1, 2, 74]
        label: dict[str, Any] = {
            "qid": qid, "query": "a dog", "vid": video_id, "duration": 150,
            "relevant_clip_ids": clips, "saliency_scores": [[1, 2, 3]] * 3,
            "relevant_windows": [[2, 6], [148, 150]],
        }  # fmt: skip
        lines.append(json.dumps(label))
        text = np.random.default_rng(qid).normal(size=(4, 5)).astype(np.float32)
        np.savez(queries / f"qid{qid}.npz", last_hidden_state=text)
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path, queries


def folders(exported: Path, form: str) -> list[str]:
    return [str(next((exported / form).glob(f"{variant}-*/fc"))) for variant in WIDTHS]


def features(exported: Path, video_id: str) -> list[Array]:
    paths = [Path(folder) / f"{video_id}.npz" for folder in folders(exported, "npz")]
    return [np.load(path)["features"].astype(np.float32) for path in paths]


def run(program: str, paths: list[Path], *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def test_files_of_all_variants_have_the_number_of_clips_of_their_video(exported: Path) -> None:
    for video_id, clips in CLIPS.items():
        assert [len(values) for values in features(exported, video_id)] == [clips, clips]


def test_lighthouse_reads_our_features(exported: Path, labels: tuple[Path, Path]) -> None:
    code = checkout("LIGHTHOUSE_CHECKOUT", "line/lighthouse")
    path, queries = labels
    found = run(LIGHTHOUSE, [code, code / "training"], path, queries, "", *folders(exported, "npz"))
    assert found["class"] == "StartEndDataset"
    assert found["batch"] == [3, 75, sum(WIDTHS.values()) + 2]
    assert found["mask"] == [75.0, 75.0, 75.0]
    for video_id, values in found["videos"].items():
        kinds = [kind[:75] for kind in features(exported, video_id)]
        unit = [kind / np.linalg.norm(kind, axis=1, keepdims=True) for kind in kinds]
        expected = np.concatenate(unit, axis=1)
        np.testing.assert_allclose(np.array(values)[:, :-2], expected, rtol=1e-4, atol=1e-6)


def test_umt_reads_our_features(exported: Path, labels: tuple[Path, Path]) -> None:
    code = checkout("UMT_CHECKOUT", "TencentARC/UMT")
    path, queries = labels
    sound = folders(exported, "npy")[0]  # any features in the place of PANN's
    program = [os.environ.get("NNCORE_FOLDER", "")]
    found = run(
        UMT, [Path(one) for one in program if one], path, queries, sound, "", code,
        *folders(exported, "npz"),
    )  # fmt: skip
    assert found["class"] == "QVHighlights"
    for video_id, item in found["videos"].items():
        # It cuts all kinds to the shortest: its own labels end at 75.
        expected = np.concatenate([kind[:75] for kind in features(exported, video_id)], axis=1)
        assert np.array(item["video"], np.float32).tobytes() == expected.tobytes()
        assert len(item["audio"]) == len(item["saliency"]) == 75
