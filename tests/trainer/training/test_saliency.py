"""TASED-Net's training: the authors' loss, their two rates, DHF1K's folders, and that a small
network learns by it.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from models.extractors.tased.network import TasedNet
from models.extractors.tased.weights import initialise
from tests.models.goldens import make_tased_training
from tests.support.synthetic_store import HEIGHT, WIDTH, scene
from trainer.losses.pld_vhd import intersection_over_union
from trainer.training.saliency import (
    DHF1K,
    SaliencyDraw,
    SaliencyTraining,
    kl_divergence,
    make_optimizer,
    make_schedule,
    train_step,
)

GOLDEN = json.loads(Path(make_tased_training.__file__).with_name("tased_training.json").read_text())


@pytest.mark.parametrize("name", make_tased_training.MAPS)
def test_the_loss_is_the_authors(name: str) -> None:
    assert float(kl_divergence(*make_tased_training.maps(name))) == pytest.approx(
        GOLDEN["kl"][name], rel=1e-5
    )


def test_per_map_every_map_is_a_distribution() -> None:
    predicted, looked_at = make_tased_training.maps("batch")
    alone = [kl_divergence(predicted[n : n + 1], looked_at[n : n + 1]) for n in range(3)]
    together = kl_divergence(predicted, looked_at, per_map=True)
    torch.testing.assert_close(together, torch.stack(alone).mean())
    brighter = predicted * torch.tensor([1, 2, 3]).view(3, 1, 1)
    torch.testing.assert_close(kl_divergence(brighter, looked_at, per_map=True), together)
    assert float(kl_divergence(brighter, looked_at)) > float(kl_divergence(predicted, looked_at)), (
        "as released"
    )
    torch.testing.assert_close(kl_divergence(looked_at, looked_at, per_map=True), torch.tensor(0.0))


def test_a_map_that_nobody_looked_at_is_refused() -> None:
    predicted, looked_at = make_tased_training.maps("batch")
    looked_at[1] = 0
    assert kl_divergence(predicted, looked_at).isfinite()
    with pytest.raises(ValueError, match="0 everywhere"):
        kl_divergence(predicted, looked_at, per_map=True)


def test_the_decoders_rate_falls_after_750_and_950_steps_and_the_encoders_never() -> None:
    network, settings = TasedNet(1 / 16), SaliencyTraining()
    optimizer = make_optimizer(network, settings)
    schedule = make_schedule(optimizer, settings)
    count = {
        group["name"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups
    }
    assert sum(count.values()) == sum(p.numel() for p in network.parameters())
    assert count["decoder"] == sum(
        p.numel() for name, p in network.named_parameters() if "convtsp" in name
    )
    assert {(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {
        (0.9, 2e-7)
    }
    rates = {}
    optimizer.step()  # without gradients: torch wants one before the schedule's
    for step in range(1, settings.steps + 1):
        schedule.step()
        rates[step] = [group["lr"] for group in optimizer.param_groups]
    assert rates[749] == pytest.approx([0.1, 0.001])
    assert rates[750] == pytest.approx([0.01, 0.001])
    assert rates[949] == pytest.approx([0.01, 0.001])
    assert rates[1000] == pytest.approx([0.001, 0.001])


def test_gradients_of_batches_are_added_up() -> None:
    network = torch.nn.Sequential()
    network.add_module("convtsp", _Scale())
    network.add_module("base", _Scale())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.rand(2, 4, 3, 5, 3, generator=generator), torch.rand(2, 3, 5, generator=generator))
        for _ in range(3)
    ]
    losses, slopes = [], []
    for chosen in ([batches[0]], [batches[1]], [batches[2]], batches):
        losses.append(train_step(network, optimizer, chosen))
        slope = network.get_parameter("base.weight").grad
        assert slope is not None
        slopes.append(slope)
    torch.testing.assert_close(slopes[3], sum(slopes[:3], torch.zeros(1)))
    assert losses[3] == pytest.approx(np.mean(losses[:3]))
    with pytest.raises(ValueError, match="at least one batch"):
        train_step(network, optimizer, [])


class _Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.7]))

    def forward(self, clips: Tensor) -> Tensor:
        if clips.ndim == 5:
            clips = clips[:, 0, -1]
        return (clips * self.weight).exp()


def write_dhf1k(folder: Path, numbers: range, frames: int) -> None:
    """Films of one object, its place blurred as fixations are, in the layout that TASED-Net's
    training reads.
    """
    rng = np.random.default_rng(0)
    for number in numbers:
        pictures, covered = scene(rng, frames, is_highlight=bool(number % 2))
        video, maps = (
            folder / "video" / f"{number:04d}",
            folder / "annotation" / f"{number:04d}" / "maps",
        )
        video.mkdir(parents=True)
        maps.mkdir(parents=True)
        for index, (picture, place) in enumerate(zip(pictures, covered, strict=True), start=1):
            cv2.imwrite(str(video / f"{index:04d}.png"), picture[..., ::-1].copy())
            looked_at = cv2.GaussianBlur(place.astype(np.uint8) * 255, (0, 0), 2)
            cv2.imwrite(str(maps / f"{index:04d}.png"), looked_at)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dhf1k")
    write_dhf1k(folder, range(1, 9), 34)
    write_dhf1k(folder, range(601, 605), 32)
    return folder


def test_an_example_is_a_window_and_the_map_of_its_last_frame(folder: Path) -> None:
    dataset = DHF1K(folder, "train", size=(HEIGHT, WIDTH))
    assert dataset.numbers == tuple(range(1, 9))
    assert DHF1K(folder, "val", size=(HEIGHT, WIDTH)).numbers == (601, 602, 603, 604)
    clip, looked_at = dataset.clip(3, 1)
    assert clip.shape == (32, HEIGHT, WIDTH, 3)
    expected = cv2.imread(str(folder / "video/0003/0033.png"))
    assert expected is not None
    assert (clip[-1] == expected[..., ::-1]).all()
    assert (
        looked_at == cv2.imread(str(folder / "annotation/0003/maps/0033.png"), cv2.IMREAD_GRAYSCALE)
    ).all()
    mirrored = dataset.clip(3, 1, is_mirrored=True)
    assert (mirrored.clip[:, :, ::-1] == clip).all()
    assert (mirrored.map[:, ::-1] == looked_at).all()


def test_draws_follow_from_seed_and_epoch_and_reach_every_window(folder: Path) -> None:
    dataset = DHF1K(folder, "train", size=(HEIGHT, WIDTH))
    again = [dataset[SaliencyDraw(2, 5, 0)].map for _ in range(2)]
    assert (again[0] == again[1]).all()
    windows = {
        (start, flip): dataset.clip(3, start, is_mirrored=flip).map
        for start in range(3)
        for flip in (False, True)
    }
    drawn = [dataset[SaliencyDraw(2, 5, epoch)].map for epoch in range(40)]
    seen = {key for key, one in windows.items() for found in drawn if (found == one).all()}
    assert seen == set(windows)


def test_other_folders_are_refused_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no annotation/0001/maps to /0600/maps"):
        DHF1K(tmp_path, "train")
    write_dhf1k(tmp_path, range(1, 2), 20)
    with pytest.raises(ValueError, match="20 frames and 20 maps; a clip is 32"):
        DHF1K(tmp_path, "train")
    for path in (tmp_path / "video/0001").iterdir():
        path.unlink()
    (tmp_path / "video/001.AVI").write_bytes(b"RIFF")
    with pytest.raises(
        ValueError, match=r"no frames; run ffmpeg -i \S+001.AVI \S+video/0001/%04d.png"
    ):
        DHF1K(tmp_path, "train")


def test_frames_without_a_map_are_left_out_at_the_end_and_refused_elsewhere(tmp_path: Path) -> None:
    write_dhf1k(tmp_path, range(1, 2), 34)
    (tmp_path / "annotation/0001/maps/0034.png").unlink()
    assert len(DHF1K(tmp_path, "train").videos[1].frames) == 33
    (tmp_path / "annotation/0001/maps/0002.png").unlink()
    with pytest.raises(ValueError, match=r"34 frames and 32 maps, but no map for 0002\.png"):
        DHF1K(tmp_path, "train")


def batch(dataset: DHF1K, places: range, epoch: int) -> tuple[Tensor, Tensor]:
    examples = [dataset[SaliencyDraw(place, 0, epoch)] for place in places]
    return (
        torch.from_numpy(np.stack([example.clip for example in examples])),
        torch.from_numpy(np.stack([example.map for example in examples])),
    )


def coverage(network: TasedNet, dataset: DHF1K) -> float:
    """Mean IoU of the brightest pixels, as many as the object has, with the object."""
    clips, maps = batch(dataset, range(len(dataset)), 0)
    with torch.no_grad():
        found = network.eval()(clips.permute(0, 4, 1, 2, 3).contiguous())
    wanted = maps > 127
    shares = 1 - wanted.float().mean((1, 2))
    cuts = torch.stack(
        [one.flatten().quantile(float(share)) for one, share in zip(found, shares, strict=True)]
    )
    return float(intersection_over_union(found > cuts[:, None, None], wanted).mean())


def small_network(seed: int = 0) -> tuple[TasedNet, torch.optim.Optimizer]:
    """From scratch: with Adam and quick norms, where the release starts from S3D with SGD."""
    network = TasedNet(1 / 8)
    initialise(network, seed)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.momentum = 0.1
    return network, torch.optim.Adam(network.parameters(), 0.02)


def test_steps_lower_the_loss_below_that_of_an_even_map(folder: Path) -> None:
    network, optimizer = small_network()
    train = DHF1K(folder, "train", size=(HEIGHT, WIDTH))
    clips, maps = batch(train, range(4), 0)
    even = float(kl_divergence(torch.ones_like(maps), maps))
    losses = [train_step(network, optimizer, [(clips, maps)]) for _ in range(20)]
    assert losses[0] > 0.9 * even
    assert losses[-1] < 0.8 * even


@pytest.mark.slow
def test_a_small_network_learns_where_people_look(folder: Path) -> None:
    network, optimizer = small_network()
    train, val = (DHF1K(folder, split, size=(HEIGHT, WIDTH)) for split in ("train", "val"))
    before = coverage(network, val)
    losses = [
        train_step(network, optimizer, [batch(train, range(8), epoch)]) for epoch in range(70)
    ]
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])
    assert before < 0.2
    assert coverage(network, val) > 0.5, "of objects in videos it never saw"
