"""What is kept between epochs: batches stay the same, bit for bit, and the bound holds."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from storage.base.records import Array
from storage.features.part_reader import PartTable
from trainer.config.recipe import load_recipe
from trainer.data import DeviceBatch, HighlightDataset, Loader, LoaderSettings, open_data
from trainer.data.collate import tensors_of
from trainer.data.dataset import UserVideoReader
from trainer.data.sources.read_cache import ENTRY_BYTES, LARGEST_SHARE, ReadCache
from trainer.synthetic.category_features import CategorySettings, synthesize_categories
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users

RECIPES = ("phd_ca", "svm_d", "mha_fusion", "sl_module", "pr_net")
MEBIBYTE = 2**20
EPOCHS = 2
WIDTH = 37
"""Odd, so that rows lie at every alignment in memory."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipe → a small planted store that it can read."""
    root = tmp_path_factory.mktemp("planted")
    users = SyntheticUserSettings(
        train_users=12, test_users=1, max_videos=4, width=WIDTH, with_frames=True
    )
    people = synthesize_users(root, users)
    videos = CategorySettings(
        train_videos=4, test_videos=1, fewest_segments=8, most_segments=12, width=WIDTH
    )
    categories = synthesize_categories(root, videos)
    return {name: categories if name == "sl_module" else people for name in RECIPES}


def dataset_of(recipe_name: str, folder: Path, *changes: str) -> HighlightDataset:
    return open_data(folder, load_recipe(recipe_name, changes=changes).data).training()


def digest(batches: Iterable[DeviceBatch]) -> str:
    """Every number of some batches."""
    sha = hashlib.sha256()
    for batch, targets, examples in batches:
        sha.update(repr(examples).encode())
        for tensor in (*tensors_of(batch), *tensors_of(targets)):
            sha.update(repr((tensor.dtype, tensor.shape)).encode() + tensor.numpy().tobytes())
    return sha.hexdigest()


def epochs(dataset: HighlightDataset, cache_bytes: int, workers: int = 0) -> list[str]:
    settings = LoaderSettings(
        5, seed=3, workers=workers, start_method="fork", cache_bytes=cache_bytes
    )
    loader = Loader(dataset, settings)
    return [digest(loader) for _ in range(EPOCHS)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_cache_changes_no_bit_of_a_batch(folders: dict[str, Path], recipe: str) -> None:
    dataset = dataset_of(recipe, folders[recipe])
    uncached = epochs(dataset, 0)
    assert len(set(uncached)) == EPOCHS  # epochs differ: the order, and what is drawn
    assert epochs(dataset, 256 * MEBIBYTE) == uncached
    assert epochs(dataset, MEBIBYTE // 4) == uncached  # it is full before the first epoch ends
    assert epochs(dataset, 256 * MEBIBYTE, workers=2) == uncached


def test_whole_segments_and_drawn_rows_are_the_same_with_a_cache(folders: dict[str, Path]) -> None:
    for recipe, change in (
        ("phd_ca", "data.only_pairs=false"),
        ("phd_ca", "data.whose='other'"),
        ("phd_ca", "data.targets='every'"),
        ("sl_module", "data.every_segment=false"),
    ):
        dataset = dataset_of(recipe, folders[recipe], change)
        assert epochs(dataset, 256 * MEBIBYTE) == epochs(dataset, 0)


@pytest.mark.parametrize("recipe", ["mha_fusion", "sl_module", "pr_net"])
def test_the_second_epoch_reads_less(
    folders: dict[str, Path], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = PartTable.rows

    def counted(table: PartTable, name: str, start: int, end: int) -> object:
        reads.append(name)
        return read(table, name, start, end)

    monkeypatch.setattr(PartTable, "rows", counted)
    loader = Loader(dataset_of(recipe, folders[recipe]), LoaderSettings(5))
    list(loader)
    first = len(reads)
    list(loader)
    # Histories that are drawn have other elements in each epoch.
    assert len(reads) - first < first / 2
    if recipe == "sl_module":
        assert len(reads) == first


def test_a_full_cache_keeps_what_it_has_within_its_bound() -> None:
    most_bytes = 4 * MEBIBYTE
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    cache = ReadCache(most_bytes)
    for number in range(3000):
        cache.get(("mean", f"video {number}", 0.5 * number), lambda: np.ones(512, np.float32))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held - before <= most_bytes
    assert most_bytes - 2 * (ENTRY_BYTES + 2048) < cache.used_bytes <= most_bytes
    assert len(cache) == cache.used_bytes // (ENTRY_BYTES + 2048)
    assert cache.find(("mean", "video 0", 0.0)) is not None
    assert cache.find(("mean", "video 2999", 1499.5)) is None


def test_the_bound_holds_for_everything_that_a_reader_keeps(folders: dict[str, Path]) -> None:
    for recipe in RECIPES:
        dataset = dataset_of(recipe, folders[recipe]).cached(MEBIBYTE // 4)
        reader = dataset.reader
        cache: ReadCache = reader.cache  # type: ignore[attr-defined]
        rng = np.random.default_rng(0)
        for example in dataset.example_set.examples:
            reader.read(example, rng)
        assert 0 < cache.used_bytes <= MEBIBYTE // 4


def test_a_large_entry_is_made_and_not_kept() -> None:
    cache = ReadCache(MEBIBYTE)
    large = np.zeros(int(LARGEST_SHARE * MEBIBYTE), np.uint8)
    found: Array = cache.get("large", lambda: large)
    assert found is large
    assert not len(cache)
    assert not ReadCache(0).has_room(0)


def test_a_cache_travels_empty_and_keeps_its_bound(folders: dict[str, Path]) -> None:
    dataset = dataset_of("phd_ca", folders["phd_ca"]).cached(MEBIBYTE)
    fresh = len(pickle.dumps(dataset))
    reader = dataset.reader
    assert isinstance(reader, UserVideoReader)
    for example in dataset.example_set.examples:
        reader.read(example, np.random.default_rng(0))
    assert len(reader.cache)
    assert len(pickle.dumps(dataset)) <= fresh + 100
    copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    assert not len(copied.reader.cache)
    assert copied.reader.cache.most_bytes == MEBIBYTE
    assert copied.reader.features._cache is copied.reader.cache


def test_highlights_of_a_user_are_made_once_and_are_read_only(folders: dict[str, Path]) -> None:
    data = open_data(folders["phd_ca"], load_recipe("phd_ca").data)
    labels = data.required_user_labels
    example = data.training().example_set.examples[0]
    found = labels.highlights(example.user_id, example.video_id)
    assert labels.highlights(example.user_id, example.video_id) is found
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    liked = {example.video_id: np.array([[0.0, 1.0]])}
    extended = labels.with_preferences(example.user_id, liked)
    assert extended.highlights(example.user_id, example.video_id).tolist() == [[0, 1]]
    assert labels.highlights(example.user_id, example.video_id) is found
