"""Small batches for every highlight model, and what is done to them: cut to one video, spoilt,
shuffled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, ModelSpec
from models.highlight.registry import HIGHLIGHT_MODELS

WIDTH, PERSONS = 24, 3
SHAPES: Mapping[str, tuple[int, ...]] = {
    "c3d/pool5": (WIDTH,),
    "c3d/fc6": (WIDTH,),
    "c3d.segments/fc7_linear": (WIDTH,),
    "frames/jpeg": (16, 16, 16, 3),
    "keypoint_rcnn/joints": (PERSONS, 17, 3),
    "keypoint_rcnn/joint_features": (PERSONS, 17, 4),
    "yolov5/p5": (6, 2, 2),
}
"""Array key → shape of one position, as small as they come."""
SMALL_SET = {"hidden_width": 32, "scorer_widths": (16, 8)}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "a_vhd": {"channels": (4, 6, 8, 10, 12), "hidden_width": 16},
    "dl_vhd": SMALL_SET,
    "dl_vhd_released": SMALL_SET,
    "fcsn": {"channels": (4, 6, 8, 10, 12), "hidden_width": 16},
    "highlight_me": {"widths": (8, 12)},
    "mha_fusion": {
        "clip_frames": 4,
        "target_frames": 8,
        "object_widths": (6, 5),
        "pose_widths": (4, 3),
        "attention_width": 7,
        "predictor_width": 9,
    },
    "phd_rh": {"recurrent_width": 16},
    "pr_net": {"width": 16, "levels": 2, "residual_width": 8},
    "pld_vhd": {"encoder": "c3d", "width": 1 / 16},
    "sl_mcd": SMALL_SET,
    "sl_module": SMALL_SET,
    "sl_module_released": SMALL_SET,
    "sl_revgrad": {**SMALL_SET, "discriminator_widths": (16, 8)},
    "video2gif": {"hidden_widths": (32, 16, 8)},
}
"""Settings of a small network, where the default is large whatever goes in."""
PERSONAL = [name for name, spec in HIGHLIGHT_MODELS.items() if spec.history != "none"]


def small(name: str, seed: int = 0, **settings: Any) -> nn.Module:
    """A model of the table on `SHAPES`, in evaluation mode."""
    torch.manual_seed(seed)
    spec = HIGHLIGHT_MODELS[name]
    chosen = {**SMALL.get(name, {}), **settings}
    return spec.build(spec.settings(**chosen), shapes(spec)).eval()


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """What `spec` reads."""
    return {key: SHAPES[key] for key in spec.arrays}


def batch(
    name: str,
    lengths: Sequence[int] = (9, 5),
    histories: Sequence[Sequence[int]] = ((2, 1, 3), (2,)),
    seed: int = 1,
) -> Batch:
    """A video for each of `lengths`; `histories` tells how many rows each element of each user's
    history has.
    """
    generator = torch.Generator().manual_seed(seed)
    spec = HIGHLIGHT_MODELS[name]
    if spec.history == "none":
        histories = [() for _ in lengths]
    users, rows = len(lengths), max(lengths)
    count = max((len(history) for history in histories), default=0)
    longest = max((length for history in histories for length in history), default=0)
    history_mask = torch.zeros(users, count, longest, dtype=torch.bool)
    for user, history in enumerate(histories):
        for element, length in enumerate(history):
            history_mask[user, element, :length] = True
    mask = torch.arange(rows) < torch.tensor(lengths)[:, None]
    return Batch(
        features={key: _values(key, mask, generator) for key in spec.arrays},
        mask=mask,
        spans=_spans(mask, generator),
        history={
            key: _values(key, history_mask, generator)
            for key in spec.arrays
            if spec.history != "none"
        },
        history_mask=history_mask,
        history_spans=_spans(history_mask, generator),
    )


def _values(key: str, mask: Tensor, generator: torch.Generator) -> Tensor:
    values = torch.rand(*mask.shape, *SHAPES[key], generator=generator)
    if key.endswith("joints"):
        values = values * 300
        values[..., 1:, :, :] *= (
            torch.rand(*mask.shape, PERSONS - 1, 1, 1, generator=generator) > 0.5
        ).float()
    if key.endswith("jpeg"):
        values = (values * 255).byte()
    return values.masked_fill(~mask.view(*mask.shape, *[1] * len(SHAPES[key])), 0)


def _spans(mask: Tensor, generator: torch.Generator) -> Tensor:
    seconds = torch.rand(mask.shape, generator=generator, dtype=torch.float64) * 4 + 0.5
    ends = seconds.cumsum(dim=-1)
    return torch.stack([ends - seconds, ends], dim=-1).masked_fill(~mask.unsqueeze(-1), 0)


def alone(whole: Batch, user: int) -> Batch:
    """One user's video and history, with nothing around them."""
    length = int(whole.mask[user].sum())
    element_lengths = whole.history_mask[user].sum(dim=1)
    count = int((element_lengths > 0).sum())
    longest = int(element_lengths.max()) if count else 0
    own, history = (
        (slice(user, user + 1), slice(length)),
        (slice(user, user + 1), slice(count), slice(longest)),
    )
    return Batch(
        features={key: values[own] for key, values in whole.features.items()},
        mask=whole.mask[own],
        spans=whole.spans[own],
        history={key: values[history] for key, values in whole.history.items()},
        history_mask=whole.history_mask[history],
        history_spans=whole.history_spans[history],
    )


def with_rubbish(whole: Batch) -> Batch:
    """The same batch with large numbers wherever no mask allows a look."""

    def spoil(values: Tensor, mask: Tensor) -> Tensor:
        large = 255 if values.dtype == torch.uint8 else 1e6
        return values.masked_fill(~mask.view(*mask.shape, *[1] * (values.ndim - mask.ndim)), large)

    return replace(
        whole,
        features={key: spoil(values, whole.mask) for key, values in whole.features.items()},
        spans=spoil(whole.spans, whole.mask),
        history={key: spoil(values, whole.history_mask) for key, values in whole.history.items()},
        history_spans=spoil(whole.history_spans, whole.history_mask),
    )


def reordered(whole: Batch, order: Sequence[int]) -> Batch:
    """The same batch with the elements of each history in another order."""
    chosen = list(order)
    return replace(
        whole,
        history={key: values[:, chosen] for key, values in whole.history.items()},
        history_mask=whole.history_mask[:, chosen],
        history_spans=whole.history_spans[:, chosen],
    )
