"""Errors of an extractor get one sentence, and one traceback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.compute.cpu_executor import ComputeRequest
from pipeline.compute.extractor_calls import Caller, naming_errors
from pipeline.compute.gpu_batcher import GpuBatcher
from storage.base.errors import ExtractorFailed, SystemicFault


class Broken:
    """Raises an error of the number of windows that it is given."""

    def prepare(self, frame: Any) -> Any:
        raise NotImplementedError

    def extract(self, windows: Sequence[Sequence[Any]]) -> Any:
        raise IndexError(f"window {len(windows)}")


def test_an_error_is_one_sentence_and_its_traceback_is_printed_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for video_id in ("one", "two"):
        caller = Caller("colours.dense", "my-features 0.1.0", video_id)
        with (
            pytest.raises(
                ExtractorFailed,
                match=rf"^extractor colours.dense of my-features 0.1.0 failed in extract, at video "
                rf"{video_id}: IndexError: window 1, in .*test_extractor_calls.py:\d+\. .*"
                r"Correct my-features 0.1.0, or take colours.dense out of",
            ),
            naming_errors(caller, Broken(), "extract"),
        ):
            Broken().extract([[1]])
    assert capsys.readouterr().err.count("Traceback") == 1


@pytest.mark.parametrize("error", [SystemicFault("the disk"), MemoryError(), KeyboardInterrupt()])
def test_other_errors_stay_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)), naming_errors(Caller("c3d", "", "v"), Broken(), "extract"):
        raise error


def test_a_batch_names_all_its_videos() -> None:
    extractor = Broken()
    with GpuBatcher("cpu") as batcher:
        futures = [
            batcher.compute(
                ComputeRequest(extractor, [[video]], 2, caller=Caller("c3d", "", video))
            )
            for video in ("one", "two", "three")
        ]
        messages = {str(future.exception(20)) for future in futures}
    named = {message.partition("at video ")[2].partition(":")[0] for message in messages}
    assert {video for names in named for video in names.split(", ")} == {"one", "two", "three"}
    assert all("Correct its code, or report it" in message for message in messages)
