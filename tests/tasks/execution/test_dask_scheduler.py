"""What a shard's failure on a worker means; told to a dispatch without workers, so that a case
takes milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from distributed.scheduler import KilledWorker

from pipeline.decoding.events import Event, FrameEvent
from pipeline.sampling.planner import VideoSampling
from storage.base.errors import LeaseHeld, SettingsError, SystemicFault, VideoError
from storage.files import lease_record
from storage.files.process_identity import current_process
from tasks.config.settings import load_settings
from tasks.execution import dask_scheduler
from tasks.execution.cluster import DaskCluster
from tasks.execution.dask_scheduler import Dispatcher
from tasks.execution.dask_worker import (
    ID_SEPARATOR,
    InFlightLog,
    WatchedDecoder,
    WorkerRequest,
    WorkerShutdown,
    check_environment,
    versions,
)
from tests.conftest import REPOSITORY
from tests.support.luigi_server import run_luigi


class Future:
    """Ends at once, with what the client was told it should."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    def add_done_callback(self, tell: Any) -> None:
        tell(self)

    def exception(self) -> BaseException | None:
        return self._error


class Client:
    """Plays workers: each shard's next end from a script; a script that is over means the shard is
    done.
    """

    status = "running"

    def __init__(self, script: dict[int, list[Any]], workers: int = 2) -> None:
        self.script, self.workers = script, workers
        self.orders: list[WorkerRequest] = []
        self.near: list[Any] = []

    def nthreads(self) -> dict[str, int]:
        return {f"worker-{number}": 1 for number in range(self.workers)}

    def submit(self, _: object, order: WorkerRequest, **options: Any) -> Future:
        self.orders.append(order)
        self.near.append(options.get("workers"))
        rest = self.script.get(order.shard, [])
        end = rest.pop(0) if rest else None
        return Future(end(order) if callable(end) else end)

    def run(self, _: object) -> dict[str, str]:
        return {"worker-0": "here", "worker-1": "there"}

    def subscribe_topic(self, *_: object) -> None:
        """No events come."""

    unsubscribe_topic = subscribe_topic


def killed(deaths: int, *in_hand: str) -> Any:
    """So many workers died; these videos were begun, in this order."""

    def die(order: WorkerRequest) -> BaseException:
        begun = InFlightLog(order.settings.layout.in_flight(order.shard))
        for video_id in in_hand:
            begun.record(video_id)
        worker: Any = None
        return KilledWorker("shard", worker, deaths - 1)

    return die


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(dask_scheduler, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(dask_scheduler, "HELD_WAIT_SECONDS", 0.02)
    settings = load_settings("sample")
    layout = dataclasses.replace(settings.layout, root=tmp_path)
    layout.in_flight(0).parent.mkdir(parents=True)

    def play(script: dict[int, list[Any]], shards: Sequence[int] = (0, 1)) -> Client:
        client = Client(script)
        Dispatcher(
            dataclasses.replace(settings, layout=layout),
            DaskCluster(client, "cpu", lambda: None),
            shards,
        ).run()
        return client

    return play


def test_shards_are_handed_out_in_the_order_given_and_each_once(run: Any) -> None:
    assert [order.shard for order in run({}, (2, 0, 1)).orders] == [2, 0, 1]


def test_a_video_that_was_in_hand_at_every_death_is_blamed_alone(run: Any) -> None:
    client = run({0: [killed(3, "a", "b", "b", "b")]})
    assert [order.blamed for order in client.orders if order.shard == 0] == [frozenset(), {"b"}]
    assert [order.blamed for order in client.orders if order.shard == 1] == [frozenset()]


def test_deaths_at_different_videos_blame_nobody(run: Any) -> None:
    client = run({0: [killed(3, "a", "b", "c"), killed(3, "c", "d", "d")]})
    assert [order.blamed for order in client.orders if order.shard == 0] == [frozenset()] * 3


def test_a_second_bad_video_of_a_shard_is_found_too(run: Any) -> None:
    client = run({0: [killed(2, "b", "b"), killed(2, "c", "c")]})
    assert [order.blamed for order in client.orders if order.shard == 0][-1] == {"b", "c"}


def test_deaths_with_several_videos_in_hand_blame_nobody_before_they_are_tried_one_by_one(
    run: Any,
) -> None:
    together = f"a{ID_SEPARATOR}b"
    client = run({0: [killed(2, "a", together, "a", together), killed(2, "b", "b")]})
    orders = [order for order in client.orders if order.shard == 0]
    assert [order.blamed for order in orders] == [frozenset(), frozenset(), {"b"}]
    assert [order.settings.videos_at_once for order in orders] == [0, 1, 1]
    assert [order.settings.videos_at_once for order in client.orders if order.shard == 1] == [0]


def test_deaths_without_any_video_stop_the_run(run: Any) -> None:
    with pytest.raises(
        SystemicFault, match="4 workers died with shard 000 before they reached a video"
    ):
        run({0: [killed(4)]})


def test_a_worker_that_leaves_hands_its_shard_on(run: Any) -> None:
    assert [order.shard for order in run({0: [WorkerShutdown("bye")]}).orders].count(0) == 2


def test_a_held_shard_is_tried_again_on_the_host_that_can_judge_its_holder(
    run: Any, tmp_path: Path
) -> None:
    client = run({0: [LeaseHeld(tmp_path, "process 7 on there")]})
    tries = [
        near for order, near in zip(client.orders, client.near, strict=True) if order.shard == 0
    ]
    assert tries == [None, ["worker-1"]]


@pytest.mark.parametrize(
    "changes", [{"host_tag": "ffffffff"}, {"boot_tag": "ffffffff"}, {"namespace": "7"}], ids=str
)
def test_a_shard_whose_holder_died_with_its_node_is_watched_and_then_built(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(lease_record, "WATCH_SECONDS", 0.1)
    path = dataclasses.replace(load_settings("sample").layout, root=tmp_path).lease(0)
    owner = dataclasses.replace(current_process(), **changes)
    path.write_bytes(lease_record.LeaseHolder("nowhere", owner, "0123456789abcdef").to_bytes())
    client = run({0: [LeaseHeld(path, "process 7 on nowhere")]})
    assert [
        near for order, near in zip(client.orders, client.near, strict=True) if order.shard == 0
    ] == [None, None]
    assert not path.exists()


def test_a_shard_that_stays_held_is_told(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_scheduler, "HELD_LIMIT_SECONDS", 0.03)
    with pytest.raises(LeaseHeld, match="process 7 on there"):
        run({0: [LeaseHeld(tmp_path, "process 7 on there")] * 99})


@pytest.mark.parametrize("error", [SystemicFault("no disk"), SettingsError(("no",))])
def test_what_is_true_of_every_shard_ends_the_run(run: Any, error: Exception) -> None:
    with pytest.raises(type(error)):
        run({0: [error], 7: [AssertionError("must not be asked")]}, (0, 1, 2, 3, 7))


def test_a_bug_in_one_shard_leaves_the_others_to_be_built(run: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        run({0: [ZeroDivisionError()], 1: [], 2: [ZeroDivisionError()]}, (0, 1, 2))


class Decoder:
    name = "pyav"

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        event: Any = object.__new__(FrameEvent)
        yield from [event, event]

    def close(self) -> None:
        """Nothing is open."""


def test_the_video_in_hand_is_noted_and_a_blamed_one_is_not_touched(tmp_path: Path) -> None:
    begun = InFlightLog(tmp_path / "begun")
    decoder = WatchedDecoder(Decoder(), begun, frozenset({"bad"}), lambda: False)
    assert len(list(decoder.decode("good", tmp_path, []))) == 2
    with pytest.raises(VideoError, match="quarantined:crash"):
        list(decoder.decode("bad", tmp_path, []))
    assert begun.lines() == ["good"]


def test_all_videos_in_hand_are_noted_together(tmp_path: Path) -> None:
    begun = InFlightLog(tmp_path / "begun")
    one, other = (WatchedDecoder(Decoder(), begun, frozenset(), lambda: False) for _ in range(2))
    for decoder, video_id in ((one, "a"), (other, "b"), (one, "c")):
        list(decoder.decode(video_id, tmp_path, []))
    assert begun.lines() == ["a", f"a{ID_SEPARATOR}b", f"c{ID_SEPARATOR}b"]


def test_a_worker_that_is_told_to_leave_stops_within_a_video_and_blames_none(
    tmp_path: Path,
) -> None:
    begun = InFlightLog(tmp_path / "begun")
    with pytest.raises(WorkerShutdown):
        next(
            WatchedDecoder(Decoder(), begun, frozenset(), lambda: True).decode("long", tmp_path, [])
        )
    assert begun.lines() == ["long", ""]


def order(folder: Path, **changes: str) -> WorkerRequest:
    seen = tuple((name, changes.get(name, version)) for name, version in versions())
    return WorkerRequest(load_settings("sample"), 0, folder, "topic", seen)


def test_a_worker_of_another_version_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_environment(order(tmp_path))
    with pytest.raises(
        SystemicFault, match=r"has numpy .* instead of 1\.0\.0\. Start workers from the environment"
    ):
        check_environment(order(tmp_path, numpy="1.0.0"))


def test_a_worker_without_the_runs_folder_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemicFault, match="Workers need the file system of the run"):
        check_environment(order(tmp_path / "absent"))


IMPATIENT = """
import tasks.execution.cluster
tasks.execution.cluster.CONNECT_SECONDS = 1
"""


def test_an_address_where_nobody_answers_is_told_with_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    done = run_luigi(
        tmp_path,
        *("--module", "impatient", "BuildFeatures", "--catalog", "sample"),
        *("--extract-extractors", "frames"),
        *("--cluster-kind", "address", "--cluster-address", "tcp://127.0.0.1:9"),
        environment={"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        preload=("distributed",),
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
