"""Clips of pictures for pixel-level models, decoded from a `frames` variant and joined with
saliency by instant.

The one place of the trainer that decodes JPEG. Stands where
`trainer.data.sources.features.Features` does: a position is an instant, its feature the clip that
ends there. Refuses stores that do not share instants, and saliency of random weights. Knows neither
labels nor networks.

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
    """`pictures/jpeg` as clips `(L, H, W, 3)` uint8 RGB and, if asked for, `saliency/saliency` `(h,
    w)`.

    Positions are the rows of the saliency variant; without one, every `stride_rows`-th picture.
    Raises LookupFailed for a variant or array that is not there, SettingsError for saliency of
    random weights or for features that are not those in `trained_on`.
    """

    def __init__(
        self,
        folder: Path,
        clip: ClipShape,
        *,
        pictures: str = "frames",
        saliency: str | None = "tased",
        trained_on: TrainedOn | None = None,
    ) -> None:
        self.clip = clip
        self.pictures_key = f"{pictures}/jpeg"
        self.saliency_key = None if saliency is None else f"{saliency}/saliency"
        keys = [key for key in (self.saliency_key, self.pictures_key) if key is not None]
        super().__init__(folder, keys, max_items={self.pictures_key: 1}, trained_on=trained_on)
        if saliency is not None:
            reject_random_saliency(
                self.readers[saliency].name, str(self.readers[saliency].settings.get("weights", ""))
            )

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`(L, H, W, 3)` of the clips, `(h, w)` of the saliency."""
        clip = (self.clip.frames, self.clip.height, self.clip.width, 3)
        found: dict[str, tuple[int, ...]] = {self.pictures_key: clip}
        if self.saliency_key is not None:
            found[self.saliency_key] = self._any_handle(self.saliency_key).format.item_shape
        return found

    def row_spans(self, video_id: str) -> Intervals:
        """`(rows, 2)`: the positions there are. Of the saliency, or of the pictures that
        `stride_rows` leaves.
        """
        spans = super().row_spans(video_id)
        return spans if self.saliency_key else spans[:: self.clip.stride_rows]

    def rows(self, video_id: str, numbers: NDArray[np.int64]) -> dict[str, Array]:
        """Key → `(n, ...)`: the clips that end at these positions, ascending, and their saliency as
        it is stored.

        Raises LookupFailed if a position has no picture of the same span.
        """
        found: dict[str, Array] = {}
        if self.saliency_key is not None:
            found[self.saliency_key] = self._chosen(
                self._handle(self.saliency_key, video_id), numbers
            )
        found[self.pictures_key] = self._clips(video_id, self.frame_numbers(video_id)[numbers])
        return found

    def full_size_frames(self, video_id: str, numbers: NDArray[np.int64]) -> list[Frames]:
        """The pictures, as large as they are kept, that these positions are about: for people to
        look at.
        """
        handle = self._handle(self.pictures_key, video_id)
        return [
            decode_jpeg(_jpeg_bytes(handle, int(number)))
            for number in self.frame_numbers(video_id)[numbers]
        ]

    def segment_means(
        self, video_id: str, segments: Intervals
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Refused with LookupFailed: pictures have no mean; scores of positions are averaged
        instead (eq. 6).
        """
        raise LookupFailed(
            f"{self.pictures_key} has no mean over a segment; use a model whose unit is a row"
        )

    def frame_numbers(self, video_id: str) -> NDArray[np.int64]:
        """For every position the number of the picture it is about. Raises LookupFailed if the
        stores share none.
        """
        of_pictures = self.readers[self.pictures_key.partition("/")[0]][video_id].spans
        if self.saliency_key is None:
            return np.arange(0, len(of_pictures), self.clip.stride_rows)
        names = [
            self.readers[key.partition("/")[0]].name
            for key in (self.saliency_key, self.pictures_key)
        ]
        return match_frames_by_time(
            video_id, self.row_spans(video_id), of_pictures, names[0], names[1]
        )

    def _clips(self, video_id: str, lasts: NDArray[np.int64]) -> Array:
        handle = self._handle(self.pictures_key, video_id)
        wanted = clip_frame_numbers(lasts, self.clip.frames)
        needed, places = np.unique(reflect_frame_numbers(wanted, len(handle)), return_inverse=True)
        decoded = np.zeros((len(needed), self.clip.height, self.clip.width, 3), np.uint8)
        for place, number in enumerate(needed):
            decoded[place] = decode_resized(
                _jpeg_bytes(handle, int(number)), self.clip.height, self.clip.width
            )
        clips: Array = decoded[places.reshape(wanted.shape)]
        return clips

    def _chosen(self, handle: ArrayHandle, numbers: NDArray[np.int64]) -> Array:
        if not len(numbers):
            return np.zeros((0, *handle.format.item_shape), handle.dtype)
        first = int(numbers.min())
        rows = handle[first : int(numbers.max()) + 1]
        if isinstance(rows, Ragged):
            raise LookupFailed(f"{handle.name} is ragged; saliency is a map of one size")
        chosen: Array = rows[numbers - first]
        return chosen


def _jpeg_bytes(handle: ArrayHandle, row: int) -> Array:
    found = handle[row]
    return found.values if isinstance(found, Ragged) else found


def clip_frame_numbers(lasts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """`(n,)` → `(n, L)`: the frames of the clips that end there, oldest first; below 0 before the
    video's start.
    """
    return lasts[:, None] + np.arange(1 - length, 1)


def reflect_frame_numbers(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Frames before the first, as the PLD-VHD paper fills them in: the video's own first frames in
    reverse order.

    -1 is frame 0, -2 is frame 1. (TASED-Net's script turns the clip that starts at the frame around
    instead.) A video of fewer frames than that is mirrored at its end too.
    """
    inside = numbers % (2 * count)
    return cast(NDArray[np.int64], np.where(inside < count, inside, 2 * count - 1 - inside))


def decode_resized(jpeg: Array, height: int, width: int) -> Frames:
    """`(bytes,)` uint8 → `(H, W, 3)` uint8 RGB, squeezed bilinearly as TASED-Net and C3D squeeze
    frames.

    ValueError if the bytes are no picture.
    """
    return resize_frame(decode_jpeg(jpeg), height, width)


def decode_jpeg(jpeg: Array) -> Frames:
    """`(bytes,)` uint8 → `(h, w, 3)` uint8 RGB, as large as it is. ValueError if the bytes are no
    picture.
    """
    picture = cv2.imdecode(np.ascontiguousarray(jpeg), cv2.IMREAD_COLOR) if len(jpeg) else None
    if picture is None:
        raise ValueError(
            f"{len(jpeg)} bytes that start with {bytes(jpeg[:4]).hex() or 'nothing'} are no JPEG picture"
        )
    return np.asarray(picture[..., ::-1], np.uint8)


def resize_frame(picture: NDArray[Any], height: int, width: int) -> Frames:
    """`(h, w)` or `(h, w, 3)` uint8 → the same at `(H, W)`, whatever the aspect, as OpenCV resizes
    by default.
    """
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    resized = cv2.resize(
        np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(resized, np.uint8)


def match_frames_by_time(
    video_id: str, wanted: Intervals, pictures: Intervals, wanted_name: str, pictures_name: str
) -> NDArray[np.int64]:
    """`(n, 2)` and `(m, 2)` spans → for each of the n the number of the picture with the same span.

    Raises LookupFailed for a span that no picture has: its saliency would be that of another frame.
    """
    places = np.searchsorted(pictures[:, 0], wanted[:, 0] - SAME_INSTANT_SECONDS)
    found = (
        pictures[np.minimum(places, len(pictures) - 1)]
        if len(pictures)
        else np.full_like(wanted, np.nan)
    )
    strangers = np.flatnonzero(~(np.abs(found - wanted) <= SAME_INSTANT_SECONDS).all(axis=1))
    if len(strangers):
        start, end = wanted[strangers[0]]
        raise LookupFailed(
            f"{video_id}: {len(strangers)} of {len(wanted)} rows of {wanted_name} are about instants that "
            f"{pictures_name} has no picture of, the first [{start:.6f}, {end:.6f}) s; extract frames with "
            "frames_per_second = 0 (every native frame), or with that of tased"
        )
    return places


def reject_random_saliency(name: str, weights: str) -> None:
    """Raise SettingsError for saliency of random weights; planted saliency is marked, and
    passes.
    """
    if weights.startswith("random:"):
        raise SettingsError(
            (
                f"{name} was extracted with {weights} weights: such maps are above β everywhere and name no pixel. "
                "Extract tased with TASED_updated.pt, or plant saliency; or train with objective.spatial = false and "
                "frames/jpeg as the only array",
            )
        )
