"""Clips of frames for pixel-level models, decoded from a `frames` variant, with saliency maps.

The only place of the trainer that decodes JPEG. `FrameClips` takes the place of
`trainer.data.sources.features.Features`: a position is an instant, and its feature is the clip that
ends there. Frames and saliency maps are matched by time. Stores whose times differ are rejected,
and so is saliency of random weights.

Letters in shapes: n positions, L frames of a clip, H and W pixels, h and w values of a saliency
map.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import Array, Ragged
from storage.features.lazy_arrays import ArrayHandle
from trainer.data.sources.features import SAME_INSTANT_SECONDS, Features, TrainedOn
from trainer.data.sources.intervals import Intervals
from trainer.data.sources.settings import ClipShape

Frames = NDArray[np.uint8]


class FrameClips(Features):
    """Clips `(L, H, W, 3)` uint8 RGB of a frames variant and, optionally, saliency maps `(h, w)`.

    Positions are the rows of the saliency variant; without one, every `stride_rows`-th frame.
    Raises LookupFailed for a variant or array that does not exist, SettingsError for saliency of
    random weights, or for features that differ from those in `trained_on`.
    """

    def __init__(
        self,
        folder: Path,
        clip: ClipShape,
        *,
        frames: str = "frames",
        saliency: str | None = "tased",
        trained_on: TrainedOn | None = None,
    ) -> None:
        self.clip = clip
        self.frames_key = f"{frames}/jpeg"
        self.saliency_key = None if saliency is None else f"{saliency}/saliency"
        # Saliency first: the first array decides what the positions are.
        keys = [key for key in (self.saliency_key, self.frames_key) if key is not None]
        super().__init__(folder, keys, max_items={self.frames_key: 1}, trained_on=trained_on)
        if saliency is not None:
            reader = self.readers[saliency]
            reject_random_saliency(reader.name, str(reader.settings.get("weights", "")))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`(L, H, W, 3)` of the clips, `(h, w)` of the saliency."""
        clip = (self.clip.frames, self.clip.height, self.clip.width, 3)
        shapes: dict[str, tuple[int, ...]] = {self.frames_key: clip}
        if self.saliency_key is not None:
            shapes[self.saliency_key] = self._any_handle(self.saliency_key).format.item_shape
        return shapes

    def row_spans(self, video_id: str) -> Intervals:
        """`(rows, 2)`: the spans of the positions, those of saliency maps or of strided frames."""
        spans = super().row_spans(video_id)
        return spans if self.saliency_key else spans[:: self.clip.stride_rows]

    def rows(self, video_id: str, numbers: NDArray[np.int64]) -> dict[str, Array]:
        """Array key → `(n, ...)`: the clips that end at these positions, and their saliency maps.

        Raises LookupFailed if a position has no frame with the same span.
        """
        arrays: dict[str, Array] = {}
        if self.saliency_key is not None:
            handle = self._handle(self.saliency_key, video_id)
            arrays[self.saliency_key] = self._saliency_maps(handle, numbers)
        last_frames = self.frame_numbers(video_id)[numbers]
        arrays[self.frames_key] = self._clips(video_id, last_frames)
        return arrays

    def full_size_frames(self, video_id: str, numbers: NDArray[np.int64]) -> list[Frames]:
        """The frames of these positions in their stored size, for people to look at."""
        handle = self._handle(self.frames_key, video_id)
        return [
            decode_jpeg(_jpeg_bytes(handle, int(number)))
            for number in self.frame_numbers(video_id)[numbers]
        ]

    def segment_means(
        self, video_id: str, segments: Intervals
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Raises LookupFailed: frames have no mean. Scores of positions are averaged (eq. 6)."""
        raise LookupFailed(
            f"{self.frames_key} has no mean over a segment; use a model whose unit is a row"
        )

    def frame_numbers(self, video_id: str) -> NDArray[np.int64]:
        """`(positions,)`: the frame number of each position.

        Raises LookupFailed if a saliency map has no frame with the same span.
        """
        frames = self.readers[self.frames_key.partition("/")[0]]
        frame_spans = frames[video_id].spans
        if self.saliency_key is None:
            return np.arange(0, len(frame_spans), self.clip.stride_rows)
        saliency = self.readers[self.saliency_key.partition("/")[0]]
        return match_frames_by_time(
            video_id, self.row_spans(video_id), frame_spans, saliency.name, frames.name
        )

    def _clips(self, video_id: str, last_frames: NDArray[np.int64]) -> Array:
        """`(n, L, H, W, 3)`: the clips that end at these frames."""
        handle = self._handle(self.frames_key, video_id)
        numbers = reflect_frame_numbers(
            clip_frame_numbers(last_frames, self.clip.frames), len(handle)
        )
        # Clips overlap: each frame is decoded once.
        needed, places = np.unique(numbers, return_inverse=True)
        decoded = np.zeros((len(needed), self.clip.height, self.clip.width, 3), np.uint8)
        for place, number in enumerate(needed):
            jpeg = _jpeg_bytes(handle, int(number))
            decoded[place] = decode_resized(jpeg, self.clip.height, self.clip.width)
        clips: Array = decoded[places.reshape(numbers.shape)]
        return clips

    def _saliency_maps(self, handle: ArrayHandle, numbers: NDArray[np.int64]) -> Array:
        """`(n, h, w)`: these rows, in the order of `numbers`."""
        if not len(numbers):
            return np.zeros((0, *handle.format.item_shape), handle.dtype)
        # One read from the first to the last row: positions of a batch lie close together.
        first = int(numbers.min())
        rows = handle[first : int(numbers.max()) + 1]
        if isinstance(rows, Ragged):
            raise LookupFailed(f"{handle.name} is ragged; saliency maps have one size")
        chosen: Array = rows[numbers - first]
        return chosen


def _jpeg_bytes(handle: ArrayHandle, row: int) -> Array:
    item = handle[row]
    return item.values if isinstance(item, Ragged) else item


def clip_frame_numbers(lasts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """`(n,)` last frames → `(n, L)`: the frames of each clip, oldest first.

    Frames before the video's start have numbers below 0.
    """
    return lasts[:, None] + np.arange(1 - length, 1)


def reflect_frame_numbers(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Frame numbers outside `[0, count)` reflected into it: -1 → 0, -2 → 1.

    The PLD-VHD paper fills clips at the start of a video this way; TASED-Net's script reverses the
    clip that starts at the frame instead. A video shorter than a clip is reflected at its end too.
    """
    # Forwards and backwards in turn, with a period of twice the length.
    inside = numbers % (2 * count)
    return cast(NDArray[np.int64], np.where(inside < count, inside, 2 * count - 1 - inside))


def decode_resized(jpeg: Array, height: int, width: int) -> Frames:
    """`(bytes,)` uint8 → `(H, W, 3)` uint8 RGB, resized as TASED-Net and C3D resize frames.

    ValueError if the bytes are not a JPEG image.
    """
    return resize_frame(decode_jpeg(jpeg), height, width)


def decode_jpeg(jpeg: Array) -> Frames:
    """`(bytes,)` uint8 → `(h, w, 3)` uint8 RGB in its own size.

    ValueError if the bytes are not a JPEG image.
    """
    # OpenCV raises an error of its own for an empty array.
    image = None
    if len(jpeg):
        image = cv2.imdecode(np.ascontiguousarray(jpeg), cv2.IMREAD_COLOR)
    if image is None:
        start = bytes(jpeg[:4]).hex() or "nothing"
        raise ValueError(f"{len(jpeg)} bytes that start with {start} are not a JPEG image")
    return np.asarray(image[..., ::-1], np.uint8)  # BGR → RGB


def resize_frame(frame: NDArray[Any], height: int, width: int) -> Frames:
    """`(h, w)` or `(h, w, 3)` uint8 → the same at `(H, W)`, bilinearly; the aspect may change."""
    contiguous = np.ascontiguousarray(frame)
    if frame.shape[:2] == (height, width):
        return contiguous
    resized = cv2.resize(contiguous, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def match_frames_by_time(
    video_id: str, maps: Intervals, frames: Intervals, maps_name: str, frames_name: str
) -> NDArray[np.int64]:
    """Spans `(n, 2)` of maps and `(m, 2)` of frames → `(n,)`: each map's frame, of the same span.

    Raises LookupFailed for a map without a frame: it would be matched with another frame.
    """
    numbers = np.searchsorted(frames[:, 0], maps[:, 0] - SAME_INSTANT_SECONDS)
    # A map after the last frame is compared with NaN, which equals no time.
    padded = np.concatenate([frames, np.full((1, 2), np.nan)])
    is_same = (np.abs(padded[numbers] - maps) <= SAME_INSTANT_SECONDS).all(axis=1)
    unmatched = np.flatnonzero(~is_same)
    if len(unmatched):
        start, end = maps[unmatched[0]]
        raise LookupFailed(
            f"{video_id}: {len(unmatched)} of {len(maps)} rows of {maps_name} have times at which "
            f"{frames_name} has no frame, the first [{start:.6f}, {end:.6f}) s; extract frames "
            "with frames_per_second = 0 (every native frame), or with that of tased"
        )
    return numbers


def reject_random_saliency(name: str, weights: str) -> None:
    """Raise SettingsError for saliency of random weights; synthetic saliency is accepted."""
    if weights.startswith("random:"):
        raise SettingsError(
            (
                f"{name} was extracted with {weights} weights: such maps are above β everywhere "
                "and select no pixel. Extract tased with TASED_updated.pt, or synthesize saliency; "
                "or train with objective.spatial = false and frames/jpeg as the only array",
            )
        )
