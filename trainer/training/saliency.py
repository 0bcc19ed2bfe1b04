"""Training of TASED-Net as in its release: DHF1K, the KL loss, and two learning rates.

Sources: W. Wang et al., "Revisiting Video Saliency: A Large-scale Benchmark and a New Model", CVPR
2018 (DHF1K); `run_train.py`, `dataset.py` and `loss.py` of MichiganCOG/TASED-Net at
0cf47b73cf055bfc64dc132a85276cca67308226. The network and its weights' names are those of the
`tased` extractor; `load_s3d` there gives the initial weights.

Letters in shapes: B clips, L frames, H and W pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from models.extractors.tased.settings import CLIP_FRAMES, MAP_HEIGHT, MAP_WIDTH
from trainer.data.sources.frame_clips import resize_frame

Split = Literal["train", "val"]
SPLITS: dict[Split, range] = {"train": range(1, 601), "val": range(601, 701)}
"""Numbers of DHF1K's videos. The maps of 701 to 1000, the test split, were never published."""
NEW_LAYERS = "convtsp"
"""Prefix of the decoder's layers, for which S3D has no weights."""


@dataclass(frozen=True)
class SaliencyTraining:
    """Training settings; the defaults are the release's."""

    decoder_rate: float = 0.1
    encoder_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 2e-7
    batch_size: int = 8
    batches_per_step: int = 5
    """Number of batches whose gradients are summed, not averaged, before a step."""
    steps: int = 1000
    milestones: tuple[int, ...] = (750, 950)
    """Steps after which the decoder's rate drops to a tenth; the encoder's never changes."""


class SaliencyClip(NamedTuple):
    """One example."""

    clip: NDArray[np.uint8]
    """`(L, H, W, 3)` RGB."""
    map: NDArray[np.float32]
    """`(H, W)`, 0 to 255: the fixation map of the clip's last frame."""


class SaliencyDraw(NamedTuple):
    """The number of a video in its split, and the seed and epoch of its window and flip."""

    number: int
    seed: int
    epoch: int


class DHF1K(Dataset[SaliencyClip]):
    """DHF1K in the layout of TASED-Net's training.

    Frames are `video/0001/0001.png` (PNG or JPEG), maps `annotation/0001/maps/0001.png`. Raises
    ValueError for a folder without any video of the split, for a video whose frames and maps have
    different numbers or are fewer than a clip, and for a folder with the published
    `video/001.AVI` but no frames; the error then names the command that extracts them. Frames
    after the last map are ignored, and maps after the last frame: decoders disagree on the end of a
    damaged file.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        *,
        frames: int = CLIP_FRAMES,
        size: tuple[int, int] = (MAP_HEIGHT, MAP_WIDTH),
    ) -> None:
        self.frames = frames
        self.size = size
        self.videos = {
            number: _Video.open(folder, number, frames)
            for number in SPLITS[split]
            if _maps(folder, number).is_dir()
        }
        if not self.videos:
            numbers = SPLITS[split]
            raise ValueError(
                f"{folder} has no annotation/{numbers[0]:04d}/maps to /{numbers[-1]:04d}/maps"
            )
        self.numbers = tuple(self.videos)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, draw: SaliencyDraw) -> SaliencyClip:
        """A random window of the video, mirrored in half of the cases, as in the release."""
        number = self.numbers[draw.number]
        rng = np.random.default_rng([draw.seed, draw.epoch, number])
        # Every window of the video is equally likely.
        start = int(rng.integers(0, len(self.videos[number].frames) - self.frames + 1))
        return self.clip(number, start, is_mirrored=bool(rng.random() < 0.5))

    def clip(self, number: int, start: int, *, is_mirrored: bool = False) -> SaliencyClip:
        """The clip of video `number` from frame `start`, counted from 0, and its fixation map."""
        video = self.videos[number]
        end = start + self.frames
        frames = [self._read(path, cv2.IMREAD_COLOR) for path in video.frames[start:end]]
        clip = np.stack(frames)[..., ::-1]  # BGR → RGB
        fixations = self._read(video.maps[end - 1], cv2.IMREAD_GRAYSCALE)
        if is_mirrored:
            clip, fixations = clip[:, :, ::-1], fixations[:, ::-1]
        return SaliencyClip(
            np.ascontiguousarray(clip), np.ascontiguousarray(fixations, dtype=np.float32)
        )

    def _read(self, path: Path, flags: int) -> NDArray[np.uint8]:
        image = cv2.imread(str(path), flags)
        if image is None:
            raise ValueError(f"{path} is not an image that OpenCV can read")
        return resize_frame(image, *self.size)


@dataclass(frozen=True)
class _Video:
    """The files of one video: frames and their fixation maps, equally many."""

    frames: tuple[Path, ...]
    maps: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path, number: int, clip_frames: int) -> _Video:
        frames = _frame_files(folder, number)
        maps = sorted(_maps(folder, number).glob("*.png"))
        has = f"video {number:04d} of {folder} has {len(frames)} frames and {len(maps)} maps"
        for frame, fixation_map in zip(frames, maps, strict=False):
            if frame.stem != fixation_map.stem:
                raise ValueError(f"{has}, but no map for {frame.name}")
        count = min(len(frames), len(maps))
        if count < clip_frames:
            raise ValueError(f"{has}; a clip is {clip_frames} of both")
        return cls(tuple(frames[:count]), tuple(maps[:count]))


def _frame_files(folder: Path, number: int) -> list[Path]:
    """The frames of a video in order. ValueError without any."""
    at = folder / "video" / f"{number:04d}"
    frames = [path for path in at.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    if frames:
        return sorted(frames)
    published = next((folder / "video").glob(f"*{number:03d}.[aA][vV][iI]"), None)
    hint = f"; run ffmpeg -i {published} {at}/%04d.png" if published else ""
    raise ValueError(f"{at} has no frames{hint}")


def _maps(folder: Path, number: int) -> Path:
    return folder / "annotation" / f"{number:04d}" / "maps"


def kl_divergence(predicted: Tensor, fixations: Tensor, *, per_map: bool = False) -> Tensor:
    """KL(fixations ‖ predicted) of `(B, H, W)` maps, normalised to sum to 1.

    As released, the whole batch is normalised to 1, so maps with more mass weigh more and a
    prediction may move mass from one clip to another. `per_map` (ours, and the measure of DHF1K's
    benchmark) normalises every map, and gives the mean over the batch. Both add the release's
    epsilon twice. ValueError for a batch, or map, without fixations: its loss would be NaN.
    """
    axes = (1, 2) if per_map else (0, 1, 2)
    actual_mass = fixations.float().sum(axes, keepdim=True)
    if not bool((actual_mass > 0).all()):
        raise ValueError("a fixation map is 0 everywhere; leave the clip out")
    actual = fixations.float() / actual_mass
    guess = predicted.float() / predicted.float().sum(axes, keepdim=True)
    epsilon = sys.float_info.epsilon
    loss = (actual * (epsilon + actual / (guess + epsilon)).log()).sum(axes)
    return loss.mean()


def make_optimizer(network: nn.Module, settings: SaliencyTraining) -> torch.optim.SGD:
    """SGD with two groups, `decoder` (`convtsp`) and `encoder`. ValueError if one is empty."""
    encoder: list[nn.Parameter] = []
    decoder: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        group = decoder if NEW_LAYERS in name else encoder
        group.append(parameter)
    if not decoder or not encoder:
        raise ValueError(
            f"TASED-Net has parameters in an encoder and a decoder ({NEW_LAYERS}...); "
            f"got {len(encoder)} and {len(decoder)}"
        )
    groups = [
        {"params": decoder, "lr": settings.decoder_rate, "name": "decoder"},
        {"params": encoder, "lr": settings.encoder_rate, "name": "encoder"},
    ]
    # The encoder starts from S3D's weights and learns slowly; the decoder is new.
    return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)


def make_schedule(optimizer: torch.optim.Optimizer, settings: SaliencyTraining) -> LambdaLR:
    """The schedule of both rates, to be stepped after every step of the optimizer."""

    def decoder(step: int) -> float:
        return 0.1 ** sum(step >= milestone for milestone in settings.milestones)

    return LambdaLR(optimizer, [decoder, lambda _: 1.0])


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    per_map: bool = False,
) -> float:
    """One step on the summed gradients of some batches; returns the mean of their losses.

    A batch is clips `(B, L, H, W, 3)` uint8 RGB and maps `(B, H, W)`. The network is set to
    training mode.
    """
    network.train()
    optimizer.zero_grad()
    losses = []
    for clips, fixations in batches:
        predicted = network(clips.permute(0, 4, 1, 2, 3).contiguous())
        loss = kl_divergence(predicted, fixations, per_map=per_map)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
    if not losses:
        raise ValueError("a step takes at least one batch")
    optimizer.step()
    return sum(losses) / len(losses)
