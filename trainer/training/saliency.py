"""Trains TASED-Net as its release does: DHF1K's frames and maps, the KL loss, two rates, gradients
of five batches.

Sources: W. Wang et al., "Revisiting Video Saliency: A Large-scale Benchmark and a New Model", CVPR
2018 (DHF1K); `run_train.py`, `dataset.py` and `loss.py` of MichiganCOG/TASED-Net at
0cf47b73cf055bfc64dc132a85276cca67308226. The network and its weights' names are those of the
`tased` extractor; `load_s3d` there gives the weights it starts from. Refuses to know stores.

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
"""How names of the decoder start; what S3D's weights do not have."""


@dataclass(frozen=True)
class SaliencyTraining:
    """The released recipe."""

    decoder_rate: float = 0.1
    encoder_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 2e-7
    batch_size: int = 8
    batches_per_step: int = 5
    """Their gradients are added up, not averaged, before a step."""
    steps: int = 1000
    milestones: tuple[int, ...] = (750, 950)
    """After so many steps the decoder's rate falls to a tenth; the encoder's never changes."""


class SaliencyClip(NamedTuple):
    """One example."""

    clip: NDArray[np.uint8]
    """`(L, H, W, 3)` RGB."""
    map: NDArray[np.float32]
    """`(H, W)`, 0 to 255: where people looked at the clip's last frame."""


class SaliencyDraw(NamedTuple):
    """Which video of a split, and what the window and the flip are drawn from."""

    number: int
    seed: int
    epoch: int


class DHF1K(Dataset[SaliencyClip]):
    """A folder as DHF1K is laid out for TASED-Net's training: `video/0001/0001.png`,
    `annotation/0001/maps/0001.png`.

    Frames may be PNG or JPEG. DHF1K is published with its videos as `video/001.AVI`; a folder that
    has those and no frames is refused with the command that makes them. Raises ValueError for that,
    for a folder without any video of the split, and for a video whose frames and maps have other
    numbers, or are fewer than a clip. Frames after the last map are left out, and maps after the
    last frame: decoders do not agree on the end of a damaged file.
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
        """A window drawn evenly from the video, mirrored in half of the cases, as the release draws
        them.
        """
        number = self.numbers[draw.number]
        rng = np.random.default_rng([draw.seed, draw.epoch, number])
        start = int(rng.integers(0, len(self.videos[number].pictures) - self.frames + 1))
        return self.clip(number, start, is_mirrored=bool(rng.random() < 0.5))

    def clip(self, number: int, start: int, *, is_mirrored: bool = False) -> SaliencyClip:
        """The clip of video `number` from frame `start`, counted from 0, and its last frame's
        map.
        """
        video = self.videos[number]
        pictures = [
            self._read(path, cv2.IMREAD_COLOR)
            for path in video.pictures[start : start + self.frames]
        ]
        clip = np.stack(pictures)[..., ::-1]
        looked_at = self._read(video.maps[start + self.frames - 1], cv2.IMREAD_GRAYSCALE)
        if is_mirrored:
            clip, looked_at = clip[:, :, ::-1], looked_at[:, ::-1]
        return SaliencyClip(
            np.ascontiguousarray(clip), np.ascontiguousarray(looked_at, dtype=np.float32)
        )

    def _read(self, path: Path, flags: int) -> NDArray[np.uint8]:
        picture = cv2.imread(str(path), flags)
        if picture is None:
            raise ValueError(f"{path} is no picture")
        return resize_frame(picture, *self.size)


@dataclass(frozen=True)
class _Video:
    pictures: tuple[Path, ...]
    maps: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path, number: int, frames: int) -> _Video:
        at = folder / "video" / f"{number:04d}"
        pictures = sorted(
            path for path in at.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")
        )
        if not pictures:
            whole = next((folder / "video").glob(f"*{number:03d}.[aA][vV][iI]"), None)
            how = f"; run ffmpeg -i {whole} {at}/%04d.png" if whole else ""
            raise ValueError(f"{at} has no frames{how}")
        maps = sorted(_maps(folder, number).glob("*.png"))
        both = min(len(pictures), len(maps))
        stranger = next((p for p, m in zip(pictures, maps, strict=False) if p.stem != m.stem), None)
        if stranger or both < frames:
            raise ValueError(
                f"video {number:04d} of {folder} has {len(pictures)} frames and {len(maps)} maps"
                + (
                    f", but no map for {stranger.name}"
                    if stranger
                    else f"; a clip is {frames} of both"
                )
            )
        return cls(tuple(pictures[:both]), tuple(maps[:both]))


def _maps(folder: Path, number: int) -> Path:
    return folder / "annotation" / f"{number:04d}" / "maps"


def kl_divergence(predicted: Tensor, looked_at: Tensor, *, per_map: bool = False) -> Tensor:
    """KL(looked_at ‖ predicted) of `(B, H, W)` maps, each made to sum to 1.

    As released, a sum over the whole batch is made 1, so maps with more mass weigh more and a
    prediction may move mass from one clip to another. `per_map` (ours, and what DHF1K's benchmark
    measures) makes every map a distribution, and gives the mean over the batch. Both add the
    release's epsilon twice. A batch, or map, of which nobody looked at anything is refused with
    ValueError: it would be NaN.
    """
    axes = (1, 2) if per_map else (0, 1, 2)
    mass = looked_at.float().sum(axes, keepdim=True)
    if not bool((mass > 0).all()):
        raise ValueError("a map to learn from is 0 everywhere; leave the clip out")
    truth, guess = (
        looked_at.float() / mass,
        predicted.float() / predicted.float().sum(axes, keepdim=True),
    )
    epsilon = sys.float_info.epsilon
    loss = (truth * (epsilon + truth / (guess + epsilon)).log()).sum(axes)
    return loss.mean()


def make_optimizer(network: nn.Module, settings: SaliencyTraining) -> torch.optim.SGD:
    """SGD with two groups, by name: `decoder` (`convtsp`) and `encoder`. ValueError if one of them
    is empty.
    """
    named = list(network.named_parameters())
    decoder = [parameter for name, parameter in named if NEW_LAYERS in name]
    encoder = [parameter for name, parameter in named if NEW_LAYERS not in name]
    if not decoder or not encoder:
        raise ValueError(
            f"TASED-Net has an encoder and a decoder ({NEW_LAYERS}...); got {len(named)} other parameters"
        )
    groups = [
        {"params": decoder, "lr": settings.decoder_rate, "name": "decoder"},
        {"params": encoder, "lr": settings.encoder_rate, "name": "encoder"},
    ]
    return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)


def make_schedule(optimizer: torch.optim.Optimizer, settings: SaliencyTraining) -> LambdaLR:
    """To be stepped after every step of the optimiser."""

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
    """One step on the added gradients of some batches; returns the mean of their losses.

    A batch is clips `(B, L, H, W, 3)` uint8 RGB and maps `(B, H, W)`; the network is told to train.
    """
    network.train()
    optimizer.zero_grad()
    losses = []
    for clips, looked_at in batches:
        predicted = network(clips.permute(0, 4, 1, 2, 3).contiguous())
        loss = kl_divergence(predicted, looked_at, per_map=per_map)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
    if not losses:
        raise ValueError("a step takes at least one batch")
    optimizer.step()
    return sum(losses) / len(losses)
