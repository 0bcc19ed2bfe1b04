"""How a network computes on a device: threads, number formats, memory layouts, copies, resizing.

On a CPU each row is computed by itself and by one thread, and rows run side by side instead
(`pipeline.compute.cpu_executor`). oneDNN splits the sums of some convolutions by the number of
threads, so this keeps the bits independent of that number. On a GPU several rows share a forward,
and several threads feed it, each on its own stream (`pipeline.compute.gpu_batcher`); there the last
bits depend on how many rows share a forward.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
"""Layers that bf16 lowers: nearly all of the arithmetic. Norms and box decisions stay float32."""


class Stopwatch(threading.local):
    """Seconds that the calling thread has spent on something."""

    seconds: float = 0.0

    def read_and_reset(self) -> float:
        """Seconds since this thread's last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


GPU_COPY_TIME = Stopwatch()
"""Time spent copying pictures to a GPU."""


@contextmanager
def inference_context(device: str) -> Iterator[None]:
    """No gradients; one thread on a CPU; full float32 on a GPU."""
    if not is_gpu(device):
        with torch.inference_mode(), one_thread():
            yield
        return
    # TF32 would keep 10 bits of mantissa. It stays off after the block, because another thread may
    # be in the middle of the same network.
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on the calling thread only; other threads keep their own number."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seeded_generator(seed: int | None) -> torch.Generator | None:
    """A generator for the functions of `nn.init`; None stands for torch's global one."""
    return None if seed is None else torch.Generator().manual_seed(seed)


def split_into_batches(
    windows: Sequence[T], device: str, key: Callable[[T], Any] = lambda _: None
) -> list[list[T]]:
    """Groups of windows that share a forward, in order.

    On a GPU neighbours of equal `key` (such as the shape) share one. On a CPU each window is a
    batch of its own, so that no neighbour changes a bit of its row.
    """
    if is_gpu(device):
        return [list(group) for _, group in groupby(windows, key)]
    return [[window] for window in windows]


def collect_rows(outputs: Sequence[Mapping[str, Tensor]], name: str) -> list[NDArray[np.float32]]:
    """The float32 rows of array `name` from the outputs of all batches."""
    batches = [output[name].float().cpu().numpy() for output in outputs]
    return [row for batch in batches for row in batch]


def to_precision(network: Network, precision: str) -> Network:
    """`network`, changed in place for bf16: heavy layers in bfloat16, weights channels last."""
    if precision != "bf16":
        return network
    for layer in network.modules():
        if isinstance(layer, LOW_PRECISION_LAYERS):
            layer.to(torch.bfloat16)
            layer.weight.data = _to_channels_last(layer.weight.data)
    return network


def to_weight_dtype(x: Tensor, network: nn.Module) -> Tensor:
    """`x` in the dtype of the network's first weights; bfloat16 also becomes channels last."""
    dtype = next(network.parameters()).dtype
    converted = x.to(dtype)
    return _to_channels_last(converted) if dtype is torch.bfloat16 else converted


def _to_channels_last(x: Tensor) -> Tensor:
    if x.ndim not in CHANNELS_LAST:
        return x
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])


Picture = NDArray[np.uint8] | Planes
"""`(H, W, 3)` RGB, or the YUV planes of such a picture."""


def copy_frame(frame: Picture) -> Picture:
    """A copy of a decoded frame, whose own memory the decoder uses again for the next frame."""
    return frame.copy()


def prefers_planes(device: str, *, resizes_on_device: bool) -> bool:
    """Whether decoders should hand over YUV planes: a GPU that resizes also converts them to RGB.

    Planes are half as large as RGB, so they are copied to the GPU in half the time.
    """
    return resizes_on_device and is_gpu(device)


def stacking_key(picture: Picture) -> tuple[Any, ...]:
    """Pictures with equal keys can be stacked."""
    if isinstance(picture, Planes):
        return (picture.shape, picture.matrix, picture.full_range)
    return picture.shape


def clip_stacking_key(clip: Sequence[Picture]) -> tuple[Any, ...]:
    """The key of a clip's first frame; clips of different videos can only share a batch if equal.

    All frames of one clip come from one video.
    """
    return stacking_key(clip[0])


def stack_frames(pictures: Sequence[Picture], device: str) -> Tensor:
    """N pictures of equal `stacking_key` → `(N, 3, H, W)` uint8 RGB on the device.

    A GPU gets them from page-locked memory, and this does not wait for the copy: later work on the
    same stream runs after it.
    """
    copied = _copy_to_device([_pixels(picture) for picture in pictures], device)
    first = pictures[0]
    if isinstance(first, Planes):
        return planes_to_rgb(copied, first.factors)
    return copied.permute(0, 3, 1, 2)


def _pixels(picture: Picture) -> NDArray[np.uint8]:
    return picture.pixels if isinstance(picture, Planes) else picture


def _copy_to_device(arrays: Sequence[NDArray[np.uint8]], device: str) -> Tensor:
    if not is_gpu(device):
        return torch.from_numpy(np.stack(arrays)).to(device)
    began = time.perf_counter()
    locked = torch.empty((len(arrays), *arrays[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(arrays, out=locked.numpy())
    copied = locked.to(device, non_blocking=True)
    GPU_COPY_TIME.seconds += time.perf_counter() - began
    return copied


def planes_to_rgb(planes: Tensor, factors: ConversionFactors) -> Tensor:
    """`(N, H * 3 / 2, W)` uint8 planes → `(N, 3, H, W)` uint8: FFmpeg's bits on any device."""
    count, rows, width = planes.shape
    height = rows * 2 // 3
    pixels = height * width
    quarter = pixels // 4
    values = planes.reshape(count, -1).int()
    luma, u, v = torch.split(values, [pixels, quarter, quarter], dim=1)
    colours = yuv_to_rgb(
        luma.view(count, height, width),
        _double_chroma(u, height, width),
        _double_chroma(v, height, width),
        factors,
    )
    rgb = torch.stack([colour.clamp(0, 255).to(torch.uint8) for colour in colours], dim=-1)
    # Strided like pictures that arrive as RGB, so that networks add up in the same order.
    return rgb.permute(0, 3, 1, 2)


def _double_chroma(chroma: Tensor, height: int, width: int) -> Tensor:
    """`(N, H * W / 4)` → `(N, H, W)`: each value fills its block of 2×2."""
    blocks = chroma.reshape(len(chroma), height // 2, 1, width // 2, 1).expand(-1, -1, 2, -1, 2)
    return blocks.reshape(len(chroma), height, width)


def stack_clips(
    clips: Sequence[Sequence[Picture]], device: str, size: tuple[int, int] | None = None
) -> Tensor:
    """B clips of T frames → `(B, 3, T, H, W)` uint8 on the device.

    With `size` (height, width) frames are resized on the device. Overlapping clips share frame
    objects: a GPU receives and resizes one copy of each.
    """
    frames = [frame for clip in clips for frame in clip]
    if not is_gpu(device):
        stacked = _stack_and_resize(frames, device, size)
    else:
        unique, indices = _unique_frames(frames)
        stacked = _stack_and_resize(unique, device, size)
        if len(unique) < len(frames):
            stacked = stacked[torch.tensor(indices).to(stacked.device)]
    return stacked.view(len(clips), -1, *stacked.shape[1:]).transpose(1, 2)


def _unique_frames(frames: Sequence[Picture]) -> tuple[list[Picture], list[int]]:
    """The distinct frame objects, and for each frame the index of its object."""
    # By identity: comparing pixels would cost more than the copy that it saves.
    position_of: dict[int, int] = {}
    unique: list[Picture] = []
    for frame in frames:
        if id(frame) not in position_of:
            position_of[id(frame)] = len(unique)
            unique.append(frame)
    return unique, [position_of[id(frame)] for frame in frames]


def _stack_and_resize(
    frames: Sequence[Picture], device: str, size: tuple[int, int] | None
) -> Tensor:
    """`(N, 3, H, W)` uint8 on the device; frames of several sizes need `size`."""
    stacks = [stack_frames(list(group), device) for _, group in groupby(frames, stacking_key)]
    if size is not None:
        stacks = [resize_bilinear(stack, *size) for stack in stacks]
    # torch.cat would copy a single stack, and change its strides.
    return torch.cat(stacks) if len(stacks) > 1 else stacks[0]


def resize_bilinear(frames: Tensor, height: int, width: int, *, antialias: bool = False) -> Tensor:
    """`(N, 3, H, W)` uint8 → `(N, 3, height, width)` uint8, by torch on the frames' device.

    Agrees with OpenCV without `antialias`, and with PIL with it, to one step of 255: they round in
    other places.
    """
    if frames.shape[2:] == (height, width):
        return frames
    # A CPU has a kernel for uint8; a GPU computes in float32 and rounds.
    pixels = frames.float() if frames.is_cuda else frames
    resized = functional.interpolate(pixels, (height, width), mode="bilinear", antialias=antialias)
    return resized.round().clamp(0, 255).to(torch.uint8)
