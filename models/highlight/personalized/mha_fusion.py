"""MHA+Fusion: objects and poses of the clips that a user liked, weighed by frame and clip, against
those of a target.

Source: U. Bhattacharya et al., "Show Me What I Like: Detecting User-Specific Video Highlights Using
Content-Based Multi-Head Attention", ACM Multimedia 2022 (arXiv 2207.08352), section 3. Equations
are numbered as there. Sizes, and much of what happens between the equations, are not in the text;
such choices are marked `ours`. The first layers are in `priming.py`, the losses in
`trainer/losses/mha_fusion.py`.

Letters: B users, T positions of the target, K liked clips, L positions of a clip, T_c frames to
which each clip is brought, T_τ frames of a window of the target, W windows, d the width of a stream
(d_z or d_y).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.masking import (
    WeightKind,
    gather_positions,
    masked_softmax,
    resample_positions,
)
from models.highlight.personalized.mha_fusion_encoders import (
    PrimingConv3D,
    PrimingSTGCN,
    center_keypoints,
)

Streams = Literal["both", "objects", "poses"]
LongClips = Literal["resample", "cut"]

OBJECT_ARRAYS = ("p3", "p4", "p5")
"""`(C, g, g)`: the pooled maps of `yolov5`. Several are put side by side, and need the same g."""
POSE_ARRAYS = ("joints", "joint_features")
"""`(P, 17, C)`: arrays of `keypoint_rcnn` with P places for persons, best first, zeros where nobody
is.
"""


@dataclass(frozen=True)
class MHAFusionSettings:
    """Sizes and variants of MHA+Fusion. The paper gives none of the sizes: all defaults are
    ours.
    """

    streams: Streams = "both"
    """Both backbones, or one of them (the paper's second ablation)."""
    clip_frames: int = 32
    """T_c, the paper's T: a shorter clip is padded; the mean clip has 5 seconds."""
    long_clips: LongClips = "resample"
    """A longer clip gives T_c frames spread evenly over it (resample), or its first T_c (cut)."""
    target_frames: int = 256
    """T_τ: a target is scored in windows of so many rows, one after the other, the last one
    padded.
    """
    object_widths: tuple[int, ...] = (128, 128, 64)
    """Channels of PrimingConv3D's layers; the last is d_z."""
    pose_widths: tuple[int, ...] = (64, 64, 32)
    """Channels of PrimingSTGCN's units; d_y is 5 chains times the last."""
    attention_width: int = 128
    """Hidden units between a clip's T_c·d numbers and its T_c weights."""
    predictor_width: int = 256
    """Hidden units of HltPred."""
    weights: WeightKind = "sigmoid"
    """What makes w, v, σ and ρ of what the layers say: sigmoid; softmax over frames, or over clips;
    or nothing (linear), as the equations are printed.
    """
    masks_padding: bool = True
    """Whether padded frames and absent persons are kept out. False is the paper's text, which pads
    with zeros and has no mask: then padding moves norms, weights and scores of what exists.
    """
    dropout: float = 0.0
    """In the ST-GCN units."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("streams", Streams),
            ("long_clips", LongClips),
            ("weights", WeightKind),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"{name} is one of {', '.join(get_args(allowed))}; got {getattr(self, name)!r}"
                )
        if not self.object_widths or not self.pose_widths:
            raise ValueError("object_widths and pose_widths name at least one layer each")
        sizes = (self.clip_frames, self.target_frames, self.attention_width, self.predictor_width)
        if min(*sizes, *self.object_widths, *self.pose_widths) < 1:
            raise ValueError(
                f"every number of frames, units and channels is at least 1; got {self}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is at least 0 and below 1, got {self.dropout}")


class FrameWeights(nn.Module):
    """MHAConv3D and MHASTGCN (eq. 4 and 5): a head for each frame, fully connected to all frames of
    the sequence.

    Ours: one hidden layer with ReLU.
    """

    def __init__(self, frames: int, width: int, hidden: int, kind: WeightKind) -> None:
        super().__init__()
        self.inner = nn.Linear(frames * width, hidden)
        self.outer = nn.Linear(hidden, frames)
        self.kind = kind

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """`(N, frames, width)` → `(N, frames)`, zero outside the mask."""
        return masked_softmax(self.outer(torch.relu(self.inner(z.flatten(1)))), mask, self.kind)


@dataclass(frozen=True)
class Frames:
    """Sequences of one length, as a stream sees them."""

    values: Tensor
    """`(N, T, C, g, g)` of objects, `(N, T, P, V, C)` of poses."""
    present: Tensor
    """`(N, T, P)`: persons who are there; `(N, T, 0)` of objects."""
    mask: Tensor
    """`(N, T)`."""


class Stream(nn.Module):
    """One backbone: priming, frame weights and clip weights. The target has layers of its own."""

    def __init__(self, settings: MHAFusionSettings, channels: int, *, poses: bool) -> None:
        super().__init__()
        self.poses = poses
        self.prime_clips, self.prime_target = (self._priming(settings, channels) for _ in range(2))
        self.width = self.prime_clips.width
        hidden, kind = settings.attention_width, settings.weights
        self.weigh_clip_frames = FrameWeights(settings.clip_frames, self.width, hidden, kind)
        self.weigh_target_frames = FrameWeights(settings.target_frames, self.width, hidden, kind)
        self.weigh_clips = nn.Linear(
            self.width, 1
        )  # eq. 6 and 7: shared by all clips, so that their order is nothing
        self.kind = kind

    def _priming(self, settings: MHAFusionSettings, channels: int) -> PrimingConv3D | PrimingSTGCN:
        if not self.poses:
            return PrimingConv3D(channels, settings.object_widths)
        sees_padding = not settings.masks_padding
        return PrimingSTGCN(
            channels, settings.pose_widths, dropout=settings.dropout, sees_padding=sees_padding
        )

    def _prime(self, layers: nn.Module, frames: Frames) -> Tensor:
        inputs = (
            (frames.values, frames.present, frames.mask)
            if self.poses
            else (frames.values, frames.mask)
        )
        out: Tensor = layers(*inputs)
        return out

    def preference(self, clips: Frames, exists: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ψ of eq. 8 (or φ, eq. 9), `(B, d)`; the weights of clips `(B, K)`; of each clip's frames
        `(B, K, T_c)`.

        `clips` are those that exist, one after the other, user by user; `exists` is `(B, K)`.
        """
        z = self._prime(self.prime_clips, clips)
        frame_weights = self.weigh_clip_frames(z, clips.mask)
        pooled = torch.einsum("ntd,nt->nd", z, frame_weights)  # zᵀw
        clip_weights = masked_softmax(
            _spread(self.weigh_clips(pooled).squeeze(1), exists), exists, self.kind
        )
        preference = torch.einsum("bkd,bk->bd", _spread(pooled, exists), clip_weights)
        return preference, clip_weights, _spread(frame_weights, exists)

    def similarity(self, target: Frames, preference: Tensor, is_known: Tensor) -> Tensor:
        """h of eq. 10 (or 11), `(N, T_τ)`: each frame's features, averaged by the softmax of the
        user's `(N, d)`.

        Without preferred clips (`is_known` `(N,)` is false) all features count the same (section
        4.3).
        """
        z = self._prime(self.prime_target, target)
        weighted = z * self.weigh_target_frames(z, target.mask).unsqueeze(-1)  # ψ_τ
        shares = (preference / math.sqrt(self.width)).softmax(-1)
        shares = torch.where(is_known.unsqueeze(1), shares, 1 / self.width)
        return torch.einsum("ntd,nd->nt", weighted, shares)


class MHAFusion(nn.Module):
    """The whole model: scores in [0, 1], and in `parts` the `logits` `(B, T)` of them, and what was
    weighed how.

    `STREAM_clip_weights` `(B, K)` and `STREAM_frame_weights` `(B, K, T_c)`, with STREAM objects or
    poses, are σ, ρ, w and v; `history_rows` `(B, K, T_c)` says which of a clip's positions each
    frame was (-1: padding).
    """

    def __init__(self, settings: MHAFusionSettings, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.settings = settings
        names = ("objects", "poses") if settings.streams == "both" else (settings.streams,)
        self.arrays = {name: _keys(name, shapes) for name in names}
        self.streams = nn.ModuleDict()
        for name, keys in self.arrays.items():
            self.streams[name] = Stream(
                settings, _channels(name, keys, shapes), poses=name == "poses"
            )
        # HltPred (eq. 12). Ours: one hidden layer with ReLU.
        self.inner = nn.Linear(len(self.streams) * settings.target_frames, settings.predictor_width)
        self.outer = nn.Linear(settings.predictor_width, settings.target_frames)

    def forward(self, batch: Batch) -> Scores:
        """Windows of all users go through together; those without a position are left out."""
        in_window, exists = self._windows(batch.mask), batch.history_mask.any(2)
        used = in_window.any(1)
        user = (
            torch.arange(len(used), device=used.device)[used] * len(batch.mask) // max(len(used), 1)
        )
        cuts = self.settings.long_clips == "cut"
        rows, filled = resample_positions(
            batch.history_mask[exists], self.settings.clip_frames, cuts=cuts
        )
        similar, parts = (
            [],
            {"history_rows": _spread(rows.masked_fill(~filled, -1) + 1, exists) - 1},
        )
        for name, keys in self.arrays.items():
            stream = cast(Stream, self.streams[name])
            clips = self._frames(
                name,
                [gather_positions(batch.history[key][exists], rows, filled) for key in keys],
                filled,
            )
            preference, clip_weights, frame_weights = stream.preference(clips, exists)
            parts |= {f"{name}_clip_weights": clip_weights, f"{name}_frame_weights": frame_weights}
            windows = [
                self._windows(_inside(batch.features[key], batch.mask))[used] for key in keys
            ]
            target = self._frames(name, windows, in_window[used])
            similar.append(stream.similarity(target, preference[user], exists.any(1)[user]))
        logits = self.outer(torch.relu(self.inner(torch.cat(similar, 1))))
        parts["logits"] = _spread(logits, used).reshape(len(batch.mask), -1)[
            :, : batch.mask.shape[1]
        ]
        return Scores(parts["logits"].float().sigmoid(), parts)

    def _windows(self, values: Tensor) -> Tensor:
        """`(B, T, ...)` → `(B·W, T_τ, ...)`, padded with zeros; every user has the same number W of
        windows.
        """
        length = self.settings.target_frames
        count = max(math.ceil(values.shape[1] / length), 1)
        padding = values.new_zeros(len(values), count * length - values.shape[1], *values.shape[2:])
        return torch.cat((values, padding), 1).reshape(
            len(values) * count, length, *values.shape[2:]
        )

    def _frames(self, stream: str, arrays: list[Tensor], mask: Tensor) -> Frames:
        """The arrays of one stream, side by side. A person is there where any number of any array
        is not zero.
        """
        sees = mask if self.settings.masks_padding else torch.ones_like(mask)
        if stream == "objects":
            return Frames(torch.cat(arrays, 2), mask.new_zeros(*mask.shape, 0), sees)
        present = torch.stack([(array != 0).flatten(3).any(3) for array in arrays]).any(0)
        keyed = zip(self.arrays[stream], arrays, strict=True)
        ready = [
            center_keypoints(array) if key.endswith("/joints") else array for key, array in keyed
        ]
        return Frames(torch.cat(ready, -1), present, sees)


def _inside(values: Tensor, mask: Tensor) -> Tensor:
    """`(B, T, ...)` with zeros wherever `mask` `(B, T)` allows nothing."""
    return values.masked_fill(~mask.view(*mask.shape, *[1] * (values.ndim - 2)), 0)


def _spread(values: Tensor, exists: Tensor) -> Tensor:
    """`(M, ...)`, one for each true place of `exists` → `(*exists.shape, ...)`, zero elsewhere."""
    out = values.new_zeros(*exists.shape, *values.shape[1:])
    out[exists] = values
    return out


def _keys(stream: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The arrays a stream reads: those with a name it knows, whatever variant of the extractor they
    are from.
    """
    names = OBJECT_ARRAYS if stream == "objects" else POSE_ARRAYS
    keys = tuple(key for key in shapes if key.rpartition("/")[2] in names)
    if not keys:
        raise ValueError(
            f"the stream {stream} reads arrays named {', '.join(names)}, and there are {', '.join(shapes) or 'none'}; "
            "name one of them in the recipe, or choose the other stream"
        )
    return keys


def _channels(stream: str, keys: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """C of all arrays together. Their other sides must agree, and be those that the stream's layers
    are made for.
    """
    found = [shapes[key] for key in keys]
    if stream == "objects":
        agree = all(len(shape) == 3 for shape in found) and len({shape[1:] for shape in found}) == 1
        wanted, channels = "(C, g, g), with one g", sum(shape[0] for shape in found)
    else:
        agree = (
            all(len(shape) == 3 and shape[1] == len(KEYPOINTS) for shape in found)
            and len({s[0] for s in found}) == 1
        )
        wanted, channels = (
            f"(P, {len(KEYPOINTS)}, C), with one P",
            sum(shape[-1] for shape in found),
        )
    if not agree:
        described = ", ".join(f"{key} {shapes[key]}" for key in keys)
        raise ValueError(f"arrays of the stream {stream} have the shape {wanted}; got {described}")
    return channels


def _build(settings: MHAFusionSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return MHAFusion(settings, shapes)


SPEC = ModelSpec(
    name="mha_fusion",
    source="MHA+Fusion (ACM Multimedia 2022), section 3, equations 1 to 12, and section 4.3",
    arrays=("yolov5/p5", "keypoint_rcnn/joints", "keypoint_rcnn/joint_features"),
    unit="row",
    history="clips",
    settings=MHAFusionSettings,
    build=_build,
)
