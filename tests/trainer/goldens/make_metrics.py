"""Writes `metrics.json`: what the authors' own code answers for the thousand cases. Run it from the
repository:

`python -m tests.trainer.goldens.make_metrics REFERENCES OUT`, with REFERENCES a folder of the
checkouts in `COMMITS`.

Their code runs as it is, but for what Python 3 refuses (`xrange`, a print statement), libraries of
which only the names are used (stubs), and rounding of an answer to five digits (left out). Ties:
MINI-Net and UMT leave equal scores to an unstable sort, so they are given ranks in which the
earlier of two equal scores is the better.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from numpy.typing import NDArray

from tests.trainer.goldens.cases import CASES, Case, case

COMMITS = {
    "video2gif_dataset": "gyglim/video2gif_dataset@08bf13ee4adf4e9f654505fe45c9edc51afd44bb",
    "adaptive-highlight": "mrochan/adaptive-highlight@d7a5a35998d81a1bbd4cef96bf3a727c8fdb477d",
    "UMT": "TencentARC/UMT@bde05e3de39049bf90d8807f6b2a4ed8b42acbb0",
    "MINI-Net": "xuantengh/MINI-Net@d2f89bf27a55117be7bed946ca9fc94d4b2ca057",
    "pytorch-vsumm-reinforce": "KaiyangZhou/pytorch-vsumm-reinforce@041606fec8e2ba7f4c4900064a76d965a473e53c",
    "DSNet": "li-plus/DSNet@1804176e2e8b57846beb063667448982273fca89",
}
FILES = {
    "v2g": "video2gif_dataset/v2g_evaluation/__init__.py",
    "avhd": "adaptive-highlight/evaluation/metrics.py",
    "umt_tvsum": "UMT/datasets/tvsum.py",
    "umt_youtube": "UMT/datasets/youtube.py",
    "mini": "MINI-Net/src/evaluate.py",
    "knapsack": "pytorch-vsumm-reinforce/knapsack.py",
    "vsum_tools": "pytorch-vsumm-reinforce/vsum_tools.py",
    "cpd_nonlin": "DSNet/src/kts/cpd_nonlin.py",
    "cpd_auto": "DSNet/src/kts/cpd_auto.py",
}
STUBS = ("pandas", "nncore", "nncore.dataset", "nncore.parallel", "opts")
PYTHON_3 = (
    ("xrange", "range"),
    ("print picks", "print(picks)"),
    ("from kts.cpd_nonlin", "from cpd_nonlin"),
    ("from .tvsum", "from umt_tvsum"),
    ("from .utils import", "from umt_splits import"),
)
DIGITS = 9


class References:
    """The authors' modules, imported from patched copies in a folder of their own."""

    def __init__(self, checkouts: Path, folder: Path) -> None:
        sys.modules.update({name: MagicMock() for name in STUBS})
        sys.modules.update(nncore=MagicMock(to_dict_of_list=lambda blob: blob))
        sys.modules["nncore.dataset"].DATASETS.register = lambda: lambda found: found
        sys.modules["umt_splits"] = SimpleNamespace(TVSUM_SPLITS={}, YOUTUBE_SPLITS={})  # type: ignore[assignment]
        sys.path.insert(0, str(folder))
        for name, path in FILES.items():
            text = (checkouts / path).read_text()
            for old, new in PYTHON_3:
                text = text.replace(old, new)
            (folder / f"{name}.py").write_text(text)
        self._modules = {name: import_module(name) for name in FILES}
        del sys.modules["pandas"]  # scikit-learn asks what is there
        for name in ("umt_tvsum", "umt_youtube"):
            self._modules[name].round = lambda value, digits: value  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> ModuleType:
        return self._modules[name]


def answers(refs: References, given: Case) -> dict[str, Any]:
    """What the references say about one case."""
    return {
        **_v2g(refs, given),
        **_clips(refs, given),
        **_shots(refs, given),
        **_summary(refs, given),
    }


def _v2g(refs: References, given: Case) -> dict[str, Any]:
    scores = np.repeat(given.run_scores, given.run_frames)
    gifs = [gif.astype(float) for gif in given.gifs]
    union = given.gifs.max(axis=0).astype(float)
    found = {
        "ap": refs.v2g.get_ap(union, scores),
        "ap_uninterpolated": refs.v2g.get_ap(union, scores, interpolate=False),
        "nmsd_mean": refs.v2g.meaningful_summary_duration(gifs, scores),
        "nmsd_best": refs.v2g.meaningful_summary_duration(gifs, scores, mode="best"),
    }
    if not union.all():
        found["nmsd"] = refs.v2g.meaningful_summary_duration([union], scores)
    assert refs.avhd.average_precision(union, scores) == found["ap"]
    return found


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distinct scores in the same order; the earlier of two equal ones is the better."""
    found = np.empty(len(scores))
    found[np.argsort(-scores, kind="stable")] = np.arange(len(scores), 0, -1)
    return found


def _clips(refs: References, given: Case) -> dict[str, Any]:
    labels, scores = given.clip_labels, ranks(given.clip_scores)
    fake = SimpleNamespace(get_saliency=lambda index: torch.Tensor(labels.tolist()))
    umt = refs.umt_youtube.YouTubeHighlights.evaluate(
        fake, {"saliency": [torch.tensor(scores)[None]]}
    )["mAP"]
    mini = refs.mini.evaluate_sample(scores, labels[None], 1)[0]
    assert abs(umt - mini) < 1e-12
    return {"ap_trapezoidal": mini}


def _shots(refs: References, given: Case) -> dict[str, Any]:
    people, scores = twenty(given.ratings), ranks(given.shot_scores)
    fake = SimpleNamespace(
        get_video_id=lambda index: "video", label={"video": {"anno": people.T.tolist()}}
    )
    umt = refs.umt_tvsum.TVSum.evaluate(fake, {"saliency": [torch.tensor(scores)[None]]})["mAP"]
    mini = refs.mini.TVsumOrCoSumEvaluate_sample(
        scores, (people > np.median(people, axis=1, keepdims=True)) * 1, 5
    )[0]
    assert abs(umt - mini) < 1e-12
    halves = np.zeros_like(given.ratings)
    for row, ratings in zip(halves, given.ratings, strict=True):
        row[np.argsort(-ratings, kind="stable")[: len(ratings) // 2]] = 1
    return {
        "top_5_median": mini,
        "top_5_half": refs.mini.TVsumOrCoSumEvaluate_sample(scores, halves, 5)[0],
    }


def twenty(ratings: NDArray[np.int64]) -> NDArray[np.int64]:
    """UMT counts on exactly 20 annotators."""
    return np.resize(ratings, (20, ratings.shape[1]))


def _summary(refs: References, given: Case) -> dict[str, Any]:
    edges, n_frames = given.boundaries, int(given.boundaries[-1])
    found = {}
    if n_frames * 0.15 >= 1:
        change_points = np.stack([edges[:-1], edges[1:] - 1], axis=1)
        lengths = [int(length) for length in np.diff(edges)]
        machine = refs.vsum_tools.generate_summary(
            given.sampled_scores.astype(np.float32),
            change_points,
            n_frames,
            lengths,
            given.positions,
        )
        for over, name in (("avg", "f_mean"), ("max", "f_max")):
            found[name] = refs.vsum_tools.evaluate_summary(machine, given.people, over)[0]
    kernel = given.features @ given.features.T
    found["shots"] = [
        int(c) for c in refs.cpd_auto.cpd_auto(kernel, len(kernel) - 1, 1, verbose=False)[0]
    ]
    return found


def main(arguments: Sequence[str]) -> None:
    """The same references give the same file, up to the last digits of a machine's sums."""
    with tempfile.TemporaryDirectory() as folder:
        refs = References(Path(arguments[0]), Path(folder))
        rows = [answers(refs, case(seed)) for seed in range(CASES)]
    names = sorted({name for row in rows for name in row})
    lines = [f'"{name}": {json.dumps([_short(row.get(name)) for row in rows])}' for name in names]
    golden = (
        f'{{"references": {json.dumps(sorted(COMMITS.values()))},\n' + ",\n".join(lines) + "}\n"
    )
    Path(arguments[1]).write_text(golden)


def _short(value: Any) -> Any:
    return round(float(value), DIGITS) if isinstance(value, float | np.floating) else value


if __name__ == "__main__":
    main(sys.argv[1:])
