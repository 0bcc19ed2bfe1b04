"""What TASED-Net's training starts from: S3D's file, and narrower networks of the same make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.extractors.base.channel_scaling import scale_channels
from models.extractors.c3d.network import C3DTrunk
from models.extractors.tased.network import TasedNet
from models.extractors.tased.weights import initialise, load_s3d
from tests.models.goldens import formula, make_tased_training
from tests.models.goldens.reference import relative_error

GOLDEN = json.loads(Path(make_tased_training.__file__).with_name("tased_training.json").read_text())


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A state dict with the names and shapes of kylemin/S3D's."""
    return formula.state_dict({name: tuple(shape) for name, shape in GOLDEN["s3d_shapes"].items()})


def encoded(network: TasedNet, x: Tensor) -> Tensor:
    """S3D's last features: TASED-Net's encoder without what it keeps for its decoder."""
    pool = torch.nn.functional.max_pool3d
    x = pool(network.base1(x), (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    x = network.base3(pool(network.base2(x), 3, stride=2, padding=1))
    features: Tensor = network.base4(pool(x, 2))
    return features


@pytest.mark.parametrize("prefix", ["", "module."])
def test_from_s3ds_file_the_encoder_gives_s3ds_features(
    tmp_path: Path, published: dict[str, Tensor], prefix: str
) -> None:
    torch.save(
        {prefix + name: tensor for name, tensor in published.items()},
        tmp_path / "S3D_kinetics400.pt",
    )
    entries = load_s3d(tmp_path / "S3D_kinetics400.pt")
    network = TasedNet()
    rest = network.load_state_dict(entries, strict=False)
    assert not rest.unexpected_keys
    assert all(name.startswith("convtsp") for name in rest.missing_keys)
    with torch.no_grad():
        features = encoded(network.double().eval(), make_tased_training.clip()).flatten()
    assert (
        relative_error(features[:: make_tased_training.STEP].numpy(), GOLDEN["s3d_features"]) < 1e-5
    )


def test_a_file_without_counts_of_batches_is_as_good(
    tmp_path: Path, published: dict[str, Tensor]
) -> None:
    old = {
        name: tensor
        for name, tensor in published.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / "s3d.pt")
    assert load_s3d(tmp_path / "s3d.pt").keys() == {
        name for name in TasedNet().state_dict() if name.startswith("base")
    }


def test_a_file_that_lacks_a_layer_is_refused(tmp_path: Path, published: dict[str, Tensor]) -> None:
    torch.save(
        {name: tensor for name, tensor in published.items() if "base.9." not in name},
        tmp_path / "cut.pt",
    )
    with pytest.raises(ValueError, match=r"base3\.1\.branch0\.0\.conv\.weight .* is missing"):
        load_s3d(tmp_path / "cut.pt")


def test_a_narrow_network_has_the_same_layers(published: dict[str, Tensor]) -> None:
    full, narrow = TasedNet(), TasedNet(1 / 8)
    assert full.state_dict().keys() == narrow.state_dict().keys()
    initialise(narrow, 0)
    clip = torch.from_numpy(np.stack(formula.frames(32, 64, 96))).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        saliency = narrow.eval()(clip)
    assert saliency.shape == (1, 64, 96)
    assert saliency.std() > 0.01
    count = sum(parameter.numel() for parameter in narrow.parameters())
    assert count == pytest.approx(21_260_693 / 64, rel=0.1), "channels in and out shrink"


def test_channels_never_vanish() -> None:
    assert (scale_channels(64, 1), scale_channels(64, 1 / 8), scale_channels(16, 1 / 16)) == (
        64,
        8,
        4,
    )
    assert C3DTrunk(1 / 32).state_dict()["conv1.weight"].shape == (4, 3, 3, 3, 3)
    with pytest.raises(ValueError, match="above 0; got 0"):
        scale_channels(64, 0)
