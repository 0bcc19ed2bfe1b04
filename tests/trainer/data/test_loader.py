"""The order of batches: the same whatever reads them, and exactly resumed from any place."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.base.errors import IntegrityError, SettingsError
from tests.support.stores import rows_of, write_people, write_variant
from trainer.data import (
    DataSettings,
    DeviceBatch,
    HighlightDataset,
    Loader,
    LoaderSettings,
    open_data,
)
from trainer.data.batch_order import SHUFFLE_SHARDS, shuffled_order
from trainer.data.collate import tensors_of, to_device
from trainer.data.dataset import SampleSeed, UserVideoReader
from trainer.data.loader import make_collate

KEY = "c3d/pool5"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> HighlightDataset:
    """31 user videos to train on."""
    marks = [
        (f"u{number % 6}", f"v{number:02d}", start, start + 3.0)
        for number in range(31)
        for start in (1.0, 8.0, 20.0)
    ]
    users = {f"u{number}": "train" for number in range(6)}
    folder = write_people(tmp_path_factory.mktemp("data"), marks, {}, users)
    write_variant(folder, [rows_of(f"v{number:02d}", 20 + number) for number in range(31)])
    settings = DataSettings((KEY,), "segment", "shots", max_elements=7, holdout_users=0)
    return open_data(folder, settings).training()


def signature(found: DeviceBatch) -> str:
    """Every number of a batch."""
    batch, targets, examples = found
    tensors = [
        batch.features[KEY],
        batch.mask,
        batch.spans,
        batch.history[KEY],
        batch.history_mask,
        batch.history_spans,
    ]
    sha = hashlib.sha256(repr(examples).encode())
    for tensor in [*tensors, targets.labels, targets.positive, targets.pairs]:
        sha.update(repr(tensor.shape).encode() + tensor.numpy().tobytes())
    return sha.hexdigest()


def signatures(found: Iterable[DeviceBatch]) -> list[str]:
    return [signature(one) for one in found]


def epochs(loader: Loader, count: int) -> list[str]:
    return [one for _ in range(count) for one in signatures(loader)]


def test_every_example_comes_once_an_epoch_and_epochs_differ(dataset: HighlightDataset) -> None:
    loader = Loader(dataset, LoaderSettings(4, seed=1))
    orders = [[example for found in loader for example in found.examples] for _ in range(2)]
    assert len(loader) == 8
    for order in orders:
        assert sorted(map(repr, order)) == sorted(map(repr, dataset.example_set.examples))
    assert orders[0] != orders[1]
    again = [
        example
        for found in Loader(dataset, LoaderSettings(4, seed=1))
        for example in found.examples
    ]
    assert again == orders[0]
    assert [
        e for found in Loader(dataset, LoaderSettings(4, seed=2)) for e in found.examples
    ] != orders[0]


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_change_nothing(dataset: HighlightDataset, start_method: str) -> None:
    loader = Loader(dataset, LoaderSettings(4, seed=1, workers=2, start_method=start_method))
    stopped = [
        signature(one) for one in itertools.islice(loader, 3)
    ]  # two batches more are on their way
    found = stopped + epochs(loader, 2)
    assert found == epochs(Loader(dataset, LoaderSettings(4, seed=1)), 2)


@pytest.mark.parametrize("place", [0, 1, 5, 7, 8, 9, 15])
def test_a_run_resumed_anywhere_sees_what_an_undisturbed_one_sees(
    dataset: HighlightDataset, place: int
) -> None:
    undisturbed = epochs(Loader(dataset, LoaderSettings(4, seed=3)), 3)
    first = Loader(dataset, LoaderSettings(4, seed=3))
    seen: list[str] = []
    while len(seen) < place:
        seen += [signature(one) for one in itertools.islice(first, min(place - len(seen), 8))]
    state = first.state_dict()
    second = Loader(dataset, LoaderSettings(4, seed=3))
    second.load_state_dict(state)
    while len(seen) < len(undisturbed):
        seen += signatures(second)
    assert seen == undisturbed


def test_a_state_taken_in_the_loop_is_behind_the_batch_in_hand(dataset: HighlightDataset) -> None:
    loader = Loader(dataset, LoaderSettings(4, seed=3))
    states = [loader.state_dict()["batches_done"] for _ in loader]
    assert states == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (loader.epoch, loader.batches_done) == (1, 0)


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"seed": 4}, {"world_size": 2}])
def test_a_position_among_other_batches_is_refused(
    dataset: HighlightDataset, change: dict[str, int]
) -> None:
    state = Loader(dataset, LoaderSettings(4, seed=3)).state_dict()
    other = Loader(dataset, LoaderSettings(**({"batch_size": 4, "seed": 3} | change)))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="cannot resume"):
        other.load_state_dict(state)
    with pytest.raises(SettingsError, match="cannot resume"):
        Loader(dataset, LoaderSettings(4, seed=3)).load_state_dict(state | {"examples": "0123"})


def test_looking_at_data_draws_nothing_from_torch(dataset: HighlightDataset) -> None:
    state = torch.get_rng_state()
    epochs(Loader(dataset, LoaderSettings(4)), 1)
    assert (torch.get_rng_state() == state).all()


def test_ranks_share_an_epoch_evenly(dataset: HighlightDataset) -> None:
    shares = [
        [
            example
            for found in Loader(dataset, LoaderSettings(4, rank=rank, world_size=3))
            for example in found.examples
        ]
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [10, 10, 10]
    assert len({repr(example) for share in shares for example in share}) == 30


def test_shuffling_stays_within_a_few_shards(dataset: HighlightDataset) -> None:
    shards = np.repeat(np.arange(40), 30)
    order = shuffled_order(shards, seed=1, epoch=0)
    assert sorted(order.tolist()) == list(range(1200))
    pools = shards[order].reshape(-1, SHUFFLE_SHARDS * 30)
    assert [len(set(pool.tolist())) for pool in pools] == [SHUFFLE_SHARDS] * 5
    assert all(len(set(batch.tolist())) > 3 for batch in pools.reshape(-1, 16))
    assert shuffled_order(shards, 1, 1).tolist() != order.tolist()
    assert set(shards[shuffled_order(shards, 1, 1)][:240].tolist()) != set(pools[0].tolist())


@pytest.mark.parametrize(
    "change", [{"batch_size": 0}, {"workers": -1}, {"start_method": "thread"}, {"rank": 1}]
)
def test_settings_that_make_no_batches_are_refused(change: dict[str, object]) -> None:
    fields: dict[str, object] = {"batch_size": 1}
    with pytest.raises(ValueError, match="got"):
        LoaderSettings(**(fields | change))  # type: ignore[arg-type]


def test_a_damaged_store_is_an_error_not_a_batch(tmp_path: Path) -> None:
    folder = write_people(tmp_path, [("ann", "v1", 0.0, 3.0)], {"ann": "v1"}, {"ann": "test"})
    write_variant(folder, [rows_of("v1", 9)])
    dataset = open_data(folder, DataSettings((KEY,), "row", "none")).scoring("test")
    for part in folder.glob("features/*/*.h5"):
        part.write_bytes(b"")
    with pytest.raises(
        IntegrityError, match=r"bytes too early|was replaced while in use|has 0 bytes"
    ):
        next(iter(Loader(dataset, LoaderSettings(1))))


@pytest.mark.parametrize("workers", [0, 1])
def test_one_flipped_bit_of_the_rows_is_the_stores_error_from_a_worker_too(
    tmp_path: Path, workers: int
) -> None:
    folder = write_people(tmp_path, [("ann", "v1", 0.0, 3.0)], {"ann": "v1"}, {"ann": "test"})
    write_variant(folder, [rows_of("v1", 9, width=8192)])
    dataset = open_data(folder, DataSettings((KEY,), "row", "none")).scoring("test")
    (part,) = folder.glob("features/*/*.h5")
    content = bytearray(part.read_bytes())
    content[content.rindex(np.float16(8 + 1 / 8).tobytes() * 4)] ^= (
        1  # in the last row, far from what was read so far
    )
    part.write_bytes(content)
    loader = Loader(dataset, LoaderSettings(1, workers=workers, start_method="fork"))
    reading = iter(loader)
    with pytest.raises(IntegrityError, match=r"block [1-9] .*audit --repair") as caught:
        next(reading)
    assert caught.value.path == part


def of_rows(dataset: HighlightDataset) -> HighlightDataset:
    """The same examples, read row by row, with histories of clips."""
    assert isinstance(dataset.reader, UserVideoReader)
    settings = replace(dataset.reader.settings, unit="row", history="clips")
    return HighlightDataset(
        replace(dataset.reader, settings=settings), dataset.example_set, dataset.shards
    )


def test_rows_stored_as_half_stay_so_until_they_are_on_the_device(
    dataset: HighlightDataset,
) -> None:
    rows = of_rows(dataset)
    samples = [rows[SampleSeed(number, 0, 0)] for number in range(4)]
    (whole, _, _), (half, _, _) = (
        make_collate(rows, keep_float16=keeps)(samples) for keeps in (False, True)
    )
    assert {tensor.dtype for tensor in (*half.features.values(), *half.history.values())} == {
        torch.float16
    }
    there = to_device(half, "cpu")
    for mine, theirs in zip(tensors_of(there), tensors_of(whole), strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    means = make_collate(dataset, keep_float16=True)([dataset[SampleSeed(0, 0, 0)]]).batch
    assert {tensor.dtype for tensor in means.features.values()} == {torch.float32}, (
        "means are finer than float16"
    )


@pytest.mark.gpu
def test_batches_that_come_ahead_on_a_gpu_are_the_same_in_the_same_places(
    dataset: HighlightDataset,
) -> None:
    rows = of_rows(dataset)
    here, there = (
        Loader(rows, LoaderSettings(4, seed=1, device=device)) for device in ("cpu", "cuda")
    )
    for _ in range(2):
        for mine, theirs in zip(here, there, strict=True):
            assert mine.examples == theirs.examples
            for one, other in zip(tensors_of(mine.batch), tensors_of(theirs.batch), strict=True):
                assert other.is_cuda
                torch.testing.assert_close(other.cpu(), one, rtol=0, atol=0)
            assert here.state_dict() == there.state_dict()
