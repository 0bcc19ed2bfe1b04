"""PLD-VHD's students: the published sizes, eq. 6, what "w/o temporal" sees, and where the C3D
student looks.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.extractors.c3d.network import C3D, CONVOLUTIONS, SHAPES
from models.extractors.c3d.network import initialise as initialise_c3d
from models.highlight.base.contract import Batch
from models.highlight.generic.pld_c3d_decoder import C3DMaps
from models.highlight.generic.pld_vhd import PLDVHD, SPEC, PLDSettings

KEY = "frames/jpeg"
SMALL = {"tased": PLDSettings("tased", 1 / 16), "c3d": PLDSettings("c3d", 1 / 16)}
SHAPE = {"tased": (32, 32, 64, 3), "c3d": (16, 32, 48, 3)}


def build(settings: PLDSettings, shape: tuple[int, ...]) -> PLDVHD:
    torch.manual_seed(0)
    model = SPEC.build(settings, {KEY: shape, "tased/saliency": (4, 8)}).eval()
    assert isinstance(model, PLDVHD)
    return model


def clips(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def batch(values: Tensor) -> Batch:
    """One video with all of them."""
    count = len(values)
    none = torch.zeros(1, 0, 0)
    mask, spans = torch.ones(1, count, dtype=torch.bool), torch.zeros(1, count, 2)
    return Batch({KEY: values[None]}, mask, spans, {}, none.bool(), none)


def test_the_c3d_students_size() -> None:
    with torch.device("meta"):
        model = SPEC.build(PLDSettings("c3d"), {KEY: (16, 112, 112, 3)})
    encoder = sum(27 * inputs * outputs + outputs for inputs, outputs in CONVOLUTIONS.values())
    widths = (512, 512, 256, 128, 64)
    over_time = 512 * 512 * 2 + 2 * 512
    doublings = sum(16 * a * b + b * b + 2 * b for a, b in pairwise(widths))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == encoder + over_time + doublings + 64 + 1 == 35_478_209


@pytest.mark.parametrize("encoder", ["tased", "c3d"])
@torch.no_grad()
def test_a_score_is_the_mean_of_a_map_of_the_clips_size(encoder: str) -> None:
    model = build(SMALL[encoder], SHAPE[encoder])
    answer = model(batch(clips(3, SHAPE[encoder])))
    maps = answer.parts["distinctions"]
    assert maps.shape == (1, 3, *SHAPE[encoder][1:3])
    assert ((maps >= 0) & (maps <= 1)).all()
    assert maps.std() > 0.01
    torch.testing.assert_close(answer.scores, maps.mean((2, 3)))


@pytest.mark.parametrize("encoder", ["tased", "c3d"])
@torch.no_grad()
def test_without_temporal_only_the_last_frame_counts(encoder: str) -> None:
    shape = SHAPE[encoder]
    given, other = clips(2, shape), clips(2, shape, seed=1)
    other[:, -1] = given[:, -1]
    full, still = (
        build(SMALL[encoder], shape),
        build(replace(SMALL[encoder], is_temporal=False), shape),
    )
    assert (full.distinctions(given) - full.distinctions(other)).abs().max() > 1e-4
    torch.testing.assert_close(still.distinctions(given), still.distinctions(other))
    copies = given[:, -1:].expand_as(given)
    torch.testing.assert_close(full.distinctions(copies), still.distinctions(given))


@torch.no_grad()
def test_how_many_clips_go_at_a_time_changes_nothing() -> None:
    given = clips(5, SHAPE["c3d"])
    one, all_ = (
        build(PLDSettings("c3d", 1 / 16, clips_per_pass=count), SHAPE["c3d"]) for count in (1, 100)
    )
    torch.testing.assert_close(
        one.distinctions(given), all_.distinctions(given), rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_the_encoder_is_the_extractors() -> None:
    whole, student = C3D(), C3DMaps(1.0, 16)
    initialise_c3d(whole, 0)
    published = whole.state_dict()
    student.encoder.load_state_dict(
        {name: published[name] for name in SHAPES if name.startswith("conv")}
    )
    x = torch.rand(1, 3, 16, 112, 112, generator=torch.Generator().manual_seed(0)) * 200 - 100
    pool5 = torch.nn.functional.max_pool3d(
        student.encoder.stages(x)[-1], 2, ceil_mode=True
    ).flatten(1)
    torch.testing.assert_close(pool5, whole._features(x)["pool5"])


@torch.no_grad()
def test_the_c3d_students_map_moves_with_the_picture() -> None:
    model = build(SMALL["c3d"], (16, 96, 96, 3))
    given = clips(1, (16, 96, 96, 3))
    changed = given.clone()
    changed[:, -1, 40:48, 64:72] = 255
    difference = (model.distinctions(given) - model.distinctions(changed))[0].abs()
    top, left = divmod(int(difference.argmax()), 96)
    assert 34 <= top < 54, "near where the last frame changed"
    assert 58 <= left < 78


@pytest.mark.parametrize(
    ("encoder", "shape", "told"),
    [
        ("tased", (16, 64, 96, 3), "clips of 32 frames"),
        ("tased", (32, 48, 96, 3), "multiples of 32"),
        ("c3d", (12, 64, 96, 3), "a multiple of 8 frames"),
        ("c3d", (16, 64, 90, 3), "multiples of 16; got 16 frames of 64×90"),
        ("c3d", (0, 64, 96, 3), "got 0 frames"),
        ("c3d", (64, 96, 3), "reads exactly one array of clips"),
    ],
)
def test_other_clips_are_refused(encoder: str, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(SMALL[encoder], shape)


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": "s3d"},
        {"width": 0.0},
        {"norm_momentum": 0.0},
        {"prior": 1.0},
        {"clips_per_pass": 0},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PLDSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ["tased", "c3d"])
def test_an_untrained_map_is_about_its_prior(encoder: str) -> None:
    model = build(replace(SMALL[encoder], prior=0.05), SHAPE[encoder])
    last = [parameter for parameter in model.network.parameters() if parameter.shape == (1,)]
    assert [float(bias.detach().sigmoid()) for bias in last] == [pytest.approx(0.05)]
