"""Which GPUs there are to hand out, in the words CUDA_VISIBLE_DEVICES understands."""

from __future__ import annotations

import pytest
import torch

from pipeline.compute.devices import visible_gpus


@pytest.mark.parametrize(
    ("device", "environment", "count", "expected"),
    [
        ("auto", None, 3, ("0", "1", "2")),
        ("cuda", None, 2, ("0", "1")),
        ("cuda:1", None, 2, ("1",)),
        ("cpu", None, 2, ()),
        ("auto", None, 0, ()),
        ("auto", "", 0, ()),
        ("auto", "4, 6", 2, ("4", "6")),
        ("cuda:1", "GPU-aa,GPU-bb", 2, ("GPU-bb",)),
        ("auto", "0,7", 1, ("0",)),
    ],
)
def test_each_gpu_has_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    environment: str | None,
    count: int,
    expected: tuple[str, ...],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if environment is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert visible_gpus(device) == expected
