"""How a network computes on a device: threads, number formats, memory layouts, copies, and frames
resized by torch.

Bits do not depend on how many threads there are: oneDNN cuts the sums of some convolutions by the
number of threads, so on a CPU each row is computed alone and by one thread, and rows run side by
side instead (`pipeline.compute.cpu_executor`). On a GPU rows share forwards, several threads feed
it, each on a stream of its own (`pipeline.compute.gpu_batcher`), and the last bits depend on how
many rows share one. Refuses to know which network it serves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.extractors.base.precision import is_gpu
from models.extractors.base.yuv import ConversionFactors, Planes, yuv_to_rgb

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
LOW_PRECISION_LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
"""Nearly all of the arithmetic. Norms, and what decides about boxes, stay in float32."""


class Stopwatch(threading.local):
    """Seconds that a thread has spent on something."""

    seconds: float = 0.0

    def read_and_reset(self) -> float:
        """Since it last asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


GPU_COPY_TIME = Stopwatch()
"""On bringing pictures to a GPU."""


@contextmanager
def inference_context(device: str) -> Iterator[None]:
    """No gradients; one thread on a CPU; on a GPU full float32, for TF32 would keep 10 bits of
    mantissa.
    """
    if is_gpu(device):
        # For the whole process, not for the block: another thread may be in the middle of the same
        # network.
        torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode(), nullcontext() if is_gpu(device) else one_thread():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on the calling thread alone; other threads keep their own number."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def split_into_batches(
    windows: Sequence[T], device: str, kind: Callable[[T], Any] = lambda _: None
) -> list[list[T]]:
    """What shares a forward, in order: on a GPU neighbours of one `kind` (a shape, say); on a CPU
    each window is alone, so that no neighbour changes a bit.
    """
    if not is_gpu(device):
        return [[window] for window in windows]
    return [list(alike) for _, alike in groupby(windows, kind)]


def collect_rows(outputs: Sequence[Mapping[str, Tensor]], name: str) -> list[NDArray[np.float32]]:
    """The float32 rows of one array, out of the outputs of all batches."""
    return [row for output in outputs for row in output[name].float().cpu().numpy()]


def to_precision(network: Network, precision: str) -> Network:
    """`network` itself; for bf16 the weights of its convolutions and linear layers in bfloat16,
    channels last.
    """
    if precision == "bf16":
        for layer in network.modules():
            if isinstance(layer, LOW_PRECISION_LAYERS):
                layer.to(torch.bfloat16)
                layer.weight.data = _to_channels_last(layer.weight.data)
    return network


def to_weight_dtype(x: Tensor, network: nn.Module) -> Tensor:
    """`x` in the number format of the network's first weights; what becomes bfloat16 also becomes
    channels last.
    """
    dtype = next(network.parameters()).dtype
    return _to_channels_last(x.to(dtype)) if dtype is torch.bfloat16 else x.to(dtype)


def _to_channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if x.ndim in CHANNELS_LAST else x


Picture = NDArray[np.uint8] | Planes
"""`(H, W, 3)` RGB, or the planes that stand for it."""


def copy_frame(frame: Picture) -> Picture:
    """A copy of a decoded frame, whose own memory is used again for the next one."""
    return frame.copy()


def prefers_planes(device: str, *, fast: bool) -> bool:
    """Whether frames are best handed over as planes: where they are resized on a GPU, which also
    makes RGB of them.
    """
    return fast and is_gpu(device)


def stacking_key(picture: Picture) -> tuple[Any, ...]:
    """Pictures of one kind can be stacked."""
    return (
        (picture.shape, picture.matrix, picture.full_range)
        if isinstance(picture, Planes)
        else picture.shape
    )


def clip_stacking_key(clip: Sequence[Picture]) -> tuple[Any, ...]:
    """Of a clip's first frame: clips of unequal videos share a batch only if theirs are equal."""
    return stacking_key(clip[0])


def stack_frames(pictures: Sequence[Picture], device: str) -> Tensor:
    """N pictures of one kind → `(N, 3, H, W)` uint8 RGB on the device.

    To a GPU from page-locked memory, and without waiting for the copy: whatever the same stream
    does next comes after.
    """
    first = pictures[0]
    if isinstance(first, Planes):
        planes = _copy_to_device(
            [one.pixels for one in pictures if isinstance(one, Planes)], device
        )
        return planes_to_rgb(planes, first.factors)
    return _copy_to_device(
        [one for one in pictures if not isinstance(one, Planes)], device
    ).permute(0, 3, 1, 2)


def _copy_to_device(arrays: Sequence[NDArray[np.uint8]], device: str) -> Tensor:
    if not is_gpu(device):
        return torch.from_numpy(np.stack(arrays)).to(device)
    began = time.perf_counter()
    locked = torch.empty((len(arrays), *arrays[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(arrays, out=locked.numpy())
    copied = locked.to(device, non_blocking=True)
    GPU_COPY_TIME.seconds += time.perf_counter() - began
    return copied


def planes_to_rgb(planes: Tensor, by: ConversionFactors) -> Tensor:
    """`(N, H * 3 / 2, W)` uint8 planes → `(N, 3, H, W)` uint8: the same bits as FFmpeg's, on any
    device.
    """
    count, rows, width = planes.shape
    height, values = rows * 2 // 3, planes.reshape(count, -1).int()
    pixels = height * width
    luma = values[:, :pixels].view(count, height, width)
    u, v = (
        _double_chroma(values[:, k * pixels // 4 : (k + 1) * pixels // 4], height, width)
        for k in (4, 5)
    )
    made = yuv_to_rgb(luma, u, v, by)
    rgb = torch.stack([colour.clamp(0, 255).to(torch.uint8) for colour in made], dim=-1)
    return rgb.permute(
        0, 3, 1, 2
    )  # strided as pictures that come in RGB, so that networks add up in the same order


def _double_chroma(chroma: Tensor, height: int, width: int) -> Tensor:
    """`(N, H * W / 4)` → `(N, H, W)`: each value for its block of 2×2."""
    blocks = chroma.reshape(len(chroma), height // 2, 1, width // 2, 1).expand(-1, -1, 2, -1, 2)
    return blocks.reshape(len(chroma), height, width)


def stack_clips(
    clips: Sequence[Sequence[Picture]], device: str, size: tuple[int, int] | None = None
) -> Tensor:
    """B clips of T frames → `(B, 3, T, H, W)` uint8 on the device, resized to `size` if that is
    given.

    Of frames that several clips share a GPU gets, and resizes, one copy.
    """
    own = {id(frame): frame for clip in clips for frame in clip} if is_gpu(device) else {}
    shared = 0 < len(own) < sum(map(len, clips))
    pictures = list(own.values()) if shared else [frame for clip in clips for frame in clip]
    alike = [stack_frames(list(some), device) for _, some in groupby(pictures, stacking_key)]
    if size is not None:
        alike = [resize_bilinear(some, *size) for some in alike]
    frames = torch.cat(alike) if len(alike) > 1 else alike[0]
    if shared:
        place = {key: number for number, key in enumerate(own)}
        frames = frames[
            torch.tensor([place[id(frame)] for clip in clips for frame in clip]).to(frames.device)
        ]
    return frames.view(len(clips), -1, *frames.shape[1:]).transpose(1, 2)


def resize_bilinear(frames: Tensor, height: int, width: int, *, antialias: bool = False) -> Tensor:
    """`(N, 3, H, W)` uint8 → `(N, 3, height, width)` uint8 by torch on the frames' device,
    bilinear.

    Like OpenCV without `antialias`, like PIL with it, up to one step of 255: they round in other
    places. A CPU has a kernel for uint8; a GPU computes in float32 and rounds.
    """
    if frames.shape[2:] == (height, width):
        return frames
    working = frames.float() if frames.is_cuda else frames
    made = functional.interpolate(working, (height, width), mode="bilinear", antialias=antialias)
    return made.round().clamp(0, 255).to(torch.uint8)
