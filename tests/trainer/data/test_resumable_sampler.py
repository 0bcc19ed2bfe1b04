"""A sampler that resumes: the same bits in the same order, with any workers, from any place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from storage.base.errors import SettingsError
from tests.support.stores import rows_of, write_people, write_variant
from trainer.data import ResumableSampler, WindowDataset

KEY = "c3d/pool5"
BATCH = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> WindowDataset:
    """38 windows of 12 videos in three shards."""
    ids = [f"v{number:02d}" for number in range(12)]
    marks = [("ann", video_id, 1.0, 4.5) for video_id in ids]
    folder = write_people(tmp_path_factory.mktemp("data"), marks, {}, {"ann": "train"})
    write_variant(folder, [rows_of(video_id, 5 + place) for place, video_id in enumerate(ids)])
    return WindowDataset(folder, [KEY], window_rows=4, stride_rows=3, labels="user")


def loader_of(dataset: Any, sampler: ResumableSampler, workers: int = 0, how: str = "fork") -> Any:
    options: dict[str, Any] = {}
    if workers:
        options = {"multiprocessing_context": how, "persistent_workers": True}
    return DataLoader(dataset, batch_sampler=sampler, num_workers=workers, **options)


def signature(batch: dict[str, Any]) -> str:
    """Every bit of a batch."""
    sha = hashlib.sha256(repr((batch["video_id"], batch["row"])).encode())
    for key in (KEY, "spans", "mask", "label"):
        sha.update(repr(batch[key].shape).encode() + batch[key].numpy().tobytes())
    return sha.hexdigest()


def signatures(batches: Iterable[Any]) -> list[str]:
    return [signature(batch) for batch in batches]


def undisturbed(dataset: WindowDataset, epochs: int) -> list[str]:
    sampler = ResumableSampler(dataset, BATCH, seed=3)
    loader = loader_of(dataset, sampler)
    return [one for _ in range(epochs) for one in signatures(sampler.iterate(loader))]


def test_every_window_comes_once_an_epoch_and_epochs_differ(dataset: WindowDataset) -> None:
    sampler = ResumableSampler(dataset, BATCH, seed=1)
    loader = loader_of(dataset, sampler)
    orders = [
        [place for batch in sampler.iterate(loader) for place in _places(batch)] for _ in range(2)
    ]
    expected = sorted(place for one in range(len(dataset)) for place in [_place(dataset[one])])
    assert len(loader) == len(sampler) == -(-len(dataset) // BATCH)
    assert sorted(orders[0]) == sorted(orders[1]) == expected
    assert orders[0] != orders[1]


def _place(window: dict[str, Any]) -> tuple[str, int]:
    return window["video_id"], int(window["row"])


def _places(batch: dict[str, Any]) -> list[tuple[str, int]]:
    return list(zip(batch["video_id"], batch["row"].tolist(), strict=True))


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_change_nothing_and_a_run_resumes_with_another_number(
    dataset: WindowDataset, how: str
) -> None:
    whole = undisturbed(dataset, 2)
    first = ResumableSampler(dataset, BATCH, seed=3)
    loader = loader_of(dataset, first, workers=2, how=how)
    seen = signatures(islice(first.iterate(loader), 3))  # more batches are on their way
    state = json.loads(json.dumps(first.state_dict()))
    # The same loader goes on with the rest, in the workers it has.
    assert seen + signatures(first.iterate(loader)) == whole[: len(first)]
    second = ResumableSampler(dataset, BATCH, seed=3)
    second.load_state_dict(state)
    without_workers = loader_of(dataset, second)
    for _ in range(2):
        seen += signatures(second.iterate(without_workers))
    assert seen == whole


@pytest.mark.parametrize("place", [0, 1, 5, 9, 10, 11])
def test_a_run_resumed_anywhere_sees_what_an_undisturbed_one_sees(
    dataset: WindowDataset, place: int
) -> None:
    whole = undisturbed(dataset, 2)
    first = ResumableSampler(dataset, BATCH, seed=3)
    seen: list[str] = []
    while len(seen) < place:
        left = islice(first.iterate(loader_of(dataset, first)), place - len(seen))
        seen += signatures(left)
    second = ResumableSampler(dataset, BATCH, seed=3)
    second.load_state_dict(first.state_dict())
    while len(seen) < len(whole):
        seen += signatures(second.iterate(loader_of(dataset, second)))
    assert seen == whole


def test_a_state_taken_in_the_loop_is_behind_the_current_batch(dataset: WindowDataset) -> None:
    sampler = ResumableSampler(dataset, BATCH)
    loader = loader_of(dataset, sampler)
    counts = [sampler.state_dict()["batches_done"] for _ in sampler.iterate(loader)]
    assert counts == list(range(1, len(sampler) + 1))
    assert (sampler.epoch, sampler.batches_done) == (1, 0)


def test_without_iterate_it_shuffles_anew_and_does_not_pretend_to_know(
    dataset: WindowDataset,
) -> None:
    sampler = ResumableSampler(dataset, BATCH, seed=3)
    loader = loader_of(dataset, sampler)
    assert signatures(loader) + signatures(loader) == undisturbed(dataset, 2)
    with pytest.raises(SettingsError, match=r"for batch in sampler\.iterate"):
        sampler.state_dict()


def test_a_loader_of_another_sampler_is_refused(dataset: WindowDataset) -> None:
    sampler = ResumableSampler(dataset, BATCH)
    with pytest.raises(SettingsError, match="batch_sampler=sampler"):
        next(sampler.iterate(DataLoader(dataset, batch_size=BATCH)))


@pytest.mark.parametrize("change", [{"seed": 4}, {"shuffle": False}, {"pool_shards": 1}])
def test_a_state_of_other_batches_is_refused(
    dataset: WindowDataset, change: dict[str, Any]
) -> None:
    state = ResumableSampler(dataset, BATCH, seed=3).state_dict()
    other = ResumableSampler(dataset, BATCH, **{"seed": 3, **change})
    with pytest.raises(SettingsError, match="cannot resume"):
        other.load_state_dict(state)


def test_a_state_of_other_windows_is_refused(dataset: WindowDataset) -> None:
    state = ResumableSampler(dataset, BATCH).state_dict()
    other = WindowDataset(
        dataset.features.first_reader.layout.folder.parents[1], [KEY], window_rows=5
    )
    with pytest.raises(SettingsError, match="cannot resume"):
        ResumableSampler(other, BATCH).load_state_dict(state)


def test_one_shard_after_the_other_can_be_asked_for(dataset: WindowDataset) -> None:
    sampler = ResumableSampler(dataset, len(dataset), seed=1, pool_shards=1)
    order = dataset.shards[sampler._order.numbers(0)]
    assert len(np.flatnonzero(np.diff(order))) == len(set(dataset.shards.tolist())) - 1


def test_processes_share_an_epoch(dataset: WindowDataset) -> None:
    shares = [
        [number for batch in ResumableSampler(dataset, BATCH, rank=rank, world_size=3)
         for number in batch]
        for rank in range(3)
    ]  # fmt: skip
    assert len({len(share) for share in shares}) == 1
    numbers = [number for share in shares for number in share]
    assert len(numbers) == len(set(numbers)) >= len(dataset) - 2


def test_any_dataset_of_fixed_length_will_do() -> None:
    numbers = list(range(10))
    sampler = ResumableSampler(numbers, 4, shuffle=False)
    assert list(sampler) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
