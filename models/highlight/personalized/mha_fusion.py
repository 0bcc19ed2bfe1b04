"""MHA+Fusion: compares objects and poses of a target with those of the user's preferred clips.

Attention weighs the frames and the clips.

Source: U. Bhattacharya et al., "Show Me What I Like: Detecting User-Specific Video Highlights Using
Content-Based Multi-Head Attention", ACM Multimedia 2022 (arXiv 2207.08352), section 3. Equations
are numbered as there. Sizes, and much of what happens between the equations, are not in the text;
such choices are marked `ours`. The first layers are in `mha_fusion_encoders.py`, the losses in
`trainer/losses/mha_fusion.py`.

Letters: B users, T positions of the target, K preferred clips, L positions of a clip, T_c frames to
which each clip is brought, T_τ frames of a window of the target, W windows, d the width of a stream
(d_z or d_y).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from models.validation import at_least, dropout_rate, layer_widths, one_of

Streams = Literal["both", "objects", "poses"]
LongClips = Literal["resample", "cut"]

OBJECT_ARRAYS = ("p3", "p4", "p5")
"""`(C, g, g)`: the pooled maps of `yolov5`. Several are concatenated, and need the same g."""
POSE_ARRAYS = ("joints", "joint_features")
"""`(P, 17, C)`: arrays of `keypoint_rcnn` with P slots for persons, best first; unused are 0."""


@dataclass(frozen=True)
class MHAFusionSettings:
    """Sizes and variants of MHA+Fusion. The paper gives no sizes: all defaults are ours."""

    streams: Streams = "both"
    """Both backbones, or one of them (the paper's second ablation)."""
    clip_frames: int = 32
    """T_c, the paper's T: a shorter clip is padded; the mean clip has 5 seconds."""
    long_clips: LongClips = "resample"
    """A longer clip gives T_c frames spread evenly over it (resample), or its first T_c (cut)."""
    target_frames: int = 256
    """T_τ: a target is scored in consecutive windows of this many rows; the last one is padded."""
    object_widths: tuple[int, ...] = (128, 128, 64)
    """Channels of PrimingConv3D's layers; the last is d_z."""
    pose_widths: tuple[int, ...] = (64, 64, 32)
    """Channels of PrimingSTGCN's units; d_y is 5 chains times the last."""
    attention_width: int = 128
    """Hidden units between a clip's T_c·d numbers and its T_c weights."""
    predictor_width: int = 256
    """Hidden units of HltPred."""
    weights: WeightKind = "sigmoid"
    """How w, v, σ and ρ follow from the layers' outputs: by sigmoid; by softmax over frames, or
    over clips; or unchanged (linear), as the equations are printed.
    """
    masks_padding: bool = True
    """Whether padded frames and absent persons are masked. False follows the paper's text, which
    pads with zeros and has no mask: then padding changes norms, weights and scores.
    """
    dropout: float = 0.0
    """In the ST-GCN units."""

    def __post_init__(self) -> None:
        one_of("streams", self.streams, get_args(Streams))
        one_of("long_clips", self.long_clips, get_args(LongClips))
        one_of("weights", self.weights, get_args(WeightKind))
        layer_widths("object_widths", self.object_widths)
        layer_widths("pose_widths", self.pose_widths)
        at_least("clip_frames", self.clip_frames, 1)
        at_least("target_frames", self.target_frames, 1)
        at_least("attention_width", self.attention_width, 1)
        at_least("predictor_width", self.predictor_width, 1)
        dropout_rate("dropout", self.dropout)


class FrameWeights(nn.Module):
    """MHAConv3D and MHASTGCN (eq. 4 and 5): a weight for each frame, from all frames.

    Ours: one hidden layer with ReLU.
    """

    def __init__(self, frames: int, width: int, hidden: int, kind: WeightKind) -> None:
        super().__init__()
        self.inner = nn.Linear(frames * width, hidden)
        self.outer = nn.Linear(hidden, frames)
        self.kind = kind

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """`(N, frames, width)` → `(N, frames)`, zero outside the mask."""
        hidden = torch.relu(self.inner(z.flatten(1)))
        return masked_softmax(self.outer(hidden), mask, self.kind)


@dataclass(frozen=True)
class Frames:
    """Sequences of one length, the input of a stream."""

    values: Tensor
    """`(N, T, C, g, g)` of objects, `(N, T, P, V, C)` of poses."""
    present: Tensor
    """`(N, T, P)`: persons that exist; `(N, T, 0)` of objects."""
    mask: Tensor
    """`(N, T)`."""


class Stream(nn.Module):
    """One backbone: encoders, frame weights and clip weights. The target has its own layers."""

    def __init__(self, settings: MHAFusionSettings, channels: int, *, poses: bool) -> None:
        super().__init__()
        self.poses = poses
        self.prime_clips, self.prime_target = (self._priming(settings, channels) for _ in range(2))
        self.width = self.prime_clips.width
        hidden, kind = settings.attention_width, settings.weights
        self.weigh_clip_frames = FrameWeights(settings.clip_frames, self.width, hidden, kind)
        self.weigh_target_frames = FrameWeights(settings.target_frames, self.width, hidden, kind)
        # Eq. 6 and 7: shared by all clips, so that their order does not matter.
        self.weigh_clips = nn.Linear(self.width, 1)
        self.kind = kind

    def _priming(self, settings: MHAFusionSettings, channels: int) -> PrimingConv3D | PrimingSTGCN:
        if not self.poses:
            return PrimingConv3D(channels, settings.object_widths)
        sees_padding = not settings.masks_padding
        return PrimingSTGCN(
            channels, settings.pose_widths, dropout=settings.dropout, sees_padding=sees_padding
        )

    def _prime(self, layers: nn.Module, frames: Frames) -> Tensor:
        inputs = [frames.values, frames.mask]
        if self.poses:
            inputs.insert(1, frames.present)
        out: Tensor = layers(*inputs)
        return out

    def preference(self, clips: Frames, exists: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ψ of eq. 8 (or φ, eq. 9), `(B, d)`, with the weights of clips and of their frames.

        The weights are `(B, K)` and `(B, K, T_c)`. `clips` are those that exist, user by user;
        `exists` is `(B, K)`.
        """
        z = self._prime(self.prime_clips, clips)
        frame_weights = self.weigh_clip_frames(z, clips.mask)
        pooled = torch.einsum("ntd,nt->nd", z, frame_weights)  # zᵀw
        clip_logits = _scatter(self.weigh_clips(pooled).squeeze(1), exists)
        clip_weights = masked_softmax(clip_logits, exists, self.kind)
        preference = torch.einsum("bkd,bk->bd", _scatter(pooled, exists), clip_weights)
        return preference, clip_weights, _scatter(frame_weights, exists)

    def similarity(self, target: Frames, preference: Tensor, is_known: Tensor) -> Tensor:
        """h of eq. 10 (or 11), `(N, T_τ)`: each frame's features weighed by the user's preference.

        The weights are the softmax of `preference` `(N, d)`. Without preferred clips (`is_known`
        `(N,)` is false) all features have equal weights (section 4.3).
        """
        z = self._prime(self.prime_target, target)
        weighted = z * self.weigh_target_frames(z, target.mask).unsqueeze(-1)  # ψ_τ
        shares = (preference / math.sqrt(self.width)).softmax(-1)  # of the d features
        shares = torch.where(is_known.unsqueeze(1), shares, 1 / self.width)
        return torch.einsum("ntd,nd->nt", weighted, shares)


class MHAFusion(nn.Module):
    """The whole model: scores in [0, 1], and in `parts` their logits and all weights.

    `parts` has the `logits` `(B, T)`; `STREAM_clip_weights` `(B, K)` and `STREAM_frame_weights`
    `(B, K, T_c)`, with STREAM objects or poses, which are σ, ρ, w and v; and `history_rows`
    `(B, K, T_c)`, the position in the clip that each frame was (-1: padding).
    """

    def __init__(self, settings: MHAFusionSettings, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.settings = settings
        names = ("objects", "poses") if settings.streams == "both" else (settings.streams,)
        self.arrays = {name: _stream_arrays(name, shapes) for name in names}
        self.streams = nn.ModuleDict()
        for name, keys in self.arrays.items():
            channels = _channels(name, {key: shapes[key] for key in keys})
            self.streams[name] = Stream(settings, channels, poses=name == "poses")
        # HltPred (eq. 12). Ours: one hidden layer with ReLU.
        self.inner = nn.Linear(len(self.streams) * settings.target_frames, settings.predictor_width)
        self.outer = nn.Linear(settings.predictor_width, settings.target_frames)

    def forward(self, batch: Batch) -> Scores:
        """Windows of all users go through together, except those without a position."""
        in_window = self._windows(batch.mask)
        is_used = in_window.any(1)
        # Every user has the same number of windows, one after the other.
        window = torch.arange(len(is_used), device=is_used.device)[is_used]
        user_of_window = window * len(batch.mask) // max(len(is_used), 1)
        exists = batch.history_mask.any(2)
        is_known = exists.any(1)
        cuts = self.settings.long_clips == "cut"
        clip_masks = batch.history_mask[exists]
        rows, filled = resample_positions(clip_masks, self.settings.clip_frames, cuts=cuts)
        # Shifted by one, because _scatter fills the clips that do not exist with 0.
        parts = {"history_rows": _scatter(rows.masked_fill(~filled, -1) + 1, exists) - 1}
        similarities = []
        for name, keys in self.arrays.items():
            stream = cast(Stream, self.streams[name])
            history = [gather_positions(batch.history[key][exists], rows, filled) for key in keys]
            clips = self._frames(name, history, filled)
            preference, clip_weights, frame_weights = stream.preference(clips, exists)
            parts[f"{name}_clip_weights"] = clip_weights
            parts[f"{name}_frame_weights"] = frame_weights
            features = [_zero_outside(batch.features[key], batch.mask) for key in keys]
            windows = [self._windows(values)[is_used] for values in features]
            target = self._frames(name, windows, in_window[is_used])
            similarities.append(
                stream.similarity(target, preference[user_of_window], is_known[user_of_window])
            )
        window_logits = self.outer(torch.relu(self.inner(torch.cat(similarities, 1))))
        padded = _scatter(window_logits, is_used).reshape(len(batch.mask), -1)
        parts["logits"] = padded[:, : batch.mask.shape[1]]
        return Scores(parts["logits"].float().sigmoid(), parts)

    def _windows(self, values: Tensor) -> Tensor:
        """`(B, T, ...)` → `(B·W, T_τ, ...)`, padded with zeros; every user has W windows."""
        length = self.settings.target_frames
        users, positions, *rest = values.shape
        count = max(math.ceil(positions / length), 1)
        padding = values.new_zeros(users, count * length - positions, *rest)
        return torch.cat((values, padding), 1).reshape(users * count, length, *rest)

    def _frames(self, stream: str, arrays: list[Tensor], mask: Tensor) -> Frames:
        """The arrays of one stream, concatenated.

        A person exists if any number of any array is not zero.
        """
        seen = mask if self.settings.masks_padding else torch.ones_like(mask)
        if stream == "objects":
            return Frames(torch.cat(arrays, 2), mask.new_zeros(*mask.shape, 0), seen)
        present = torch.stack([(array != 0).flatten(3).any(3) for array in arrays]).any(0)
        keys = self.arrays[stream]
        values = [_pose_values(key, array) for key, array in zip(keys, arrays, strict=True)]
        return Frames(torch.cat(values, -1), present, seen)


def _pose_values(key: str, array: Tensor) -> Tensor:
    """Keypoints relative to their person; features unchanged."""
    return center_keypoints(array) if key.endswith("/joints") else array


def _zero_outside(values: Tensor, mask: Tensor) -> Tensor:
    """`(B, T, ...)`, zero outside the mask `(B, T)`."""
    return values.masked_fill(~mask.view(*mask.shape, *[1] * (values.ndim - 2)), 0)


def _scatter(values: Tensor, exists: Tensor) -> Tensor:
    """`(M, ...)`, one for each true place of `exists` → `(*exists.shape, ...)`, zero elsewhere."""
    out = values.new_zeros(*exists.shape, *values.shape[1:])
    out[exists] = values
    return out


def _stream_arrays(stream: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The keys of a stream's arrays, of any variant of their extractor."""
    names = OBJECT_ARRAYS if stream == "objects" else POSE_ARRAYS
    keys = tuple(key for key in shapes if key.rpartition("/")[2] in names)
    if not keys:
        listed = ", ".join(shapes) or "no arrays"
        raise ValueError(
            f"the stream {stream} reads arrays named {', '.join(names)}; the recipe has {listed}. "
            "Name one of them in the recipe, or choose the other stream"
        )
    return keys


def _channels(stream: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """C of all arrays of a stream together. ValueError unless their other dimensions fit."""
    if stream == "objects":
        expected, channel_axis = "(C, g, g), with one g", 0
    else:
        expected, channel_axis = f"(P, {len(KEYPOINTS)}, C), with one P", 2
    if not _fit_together(stream, list(shapes.values())):
        found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ValueError(
            f"arrays of the stream {stream} must have the shape {expected}; got {found}"
        )
    return sum(shape[channel_axis] for shape in shapes.values())


def _fit_together(stream: str, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether all shapes are of the stream's kind, and differ only in their channels."""
    first = shapes[0]
    for shape in shapes:
        if len(shape) != 3:
            return False
        if stream == "objects" and shape[1:] != first[1:]:
            return False
        if stream == "poses" and shape[:2] != (first[0], len(KEYPOINTS)):
            return False
    return True


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
