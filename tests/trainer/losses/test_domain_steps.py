"""Objectives on two batches: distances by hand, what a step moves, what no mask allows, and that
they are learned.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch
from models.highlight.generic.domain_adaptation import RevGradSL
from models.highlight.generic.lim import LIM
from tests.models.goldens import make_mini_net as mini
from tests.support.domain_batches import MODEL, domains
from tests.support.model_batches import batch, small, with_rubbish
from trainer.losses.registry import DOMAIN_OBJECTIVES, make_domain_objective
from trainer.losses.set_based.domain_adaptation import (
    coral,
    maximum_mean_discrepancy,
    released_coral,
)
from trainer.losses.set_based.domain_steps import DomainBatch, Step, Steps

STILL: dict[str, Any] = {"dropout": 0.0, "scorer_dropout": 0.0}


def still(name: str) -> nn.Module:
    """A model without dropout, in training mode: rows of a batch are sets."""
    more = {
        "mini_net": {"dropout": 0.0},
        "lim": {},
        "sl_revgrad": {**STILL, "discriminator_dropout": 0.0},
    }
    return small(name, **more.get(name, STILL)).train()


def rounds(model: nn.Module, steps: Steps, sets: DomainBatch, count: int) -> None:
    """What a loop does, as the docstring of `trainer.losses.set_based.domain_steps` says."""
    optimizers = {
        name: torch.optim.Adam(parameters, lr=2e-3)
        for name, child in model.named_children()
        if (parameters := list(child.parameters()))
    }
    for _ in range(count):
        for step in steps:
            for _ in range(step.repeats):
                model.zero_grad()
                torch.autograd.backward(step.loss(model, sets))
                for name in step.trained_children(model):
                    optimizers[name].step()


def loss(name: str, model: nn.Module, sets: DomainBatch, **settings: Any) -> Tensor:
    return make_domain_objective(name, **settings)[0].loss(model, sets)


def test_mmd_by_hand_whatever_the_numbers_of_rows() -> None:
    source, target = (
        torch.randn(4, 3, dtype=torch.float64),
        torch.randn(6, 3, dtype=torch.float64) + 1,
    )
    rows = torch.cat([source, target]).tolist()
    squares = [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    mean = sum(map(sum, squares)) / (10 * 9)
    kernel = [
        [sum(math.exp(-s / (mean * 2.0**power)) for power in range(-2, 3)) for s in line]
        for line in squares
    ]
    own = sum(kernel[i][j] for i in range(4) for j in range(4)) / 16
    other = sum(kernel[i][j] for i in range(4, 10) for j in range(4, 10)) / 36
    between = sum(kernel[i][j] for i in range(4) for j in range(4, 10)) / 24
    assert maximum_mean_discrepancy(source, target).item() == pytest.approx(
        own + other - 2 * between
    )
    assert maximum_mean_discrepancy(source, source).item() == pytest.approx(0, abs=1e-12)
    alike = torch.ones(3, 2, requires_grad=True)
    found = maximum_mean_discrepancy(alike, torch.ones(3, 2))
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == pytest.approx(0)
    assert alike.grad is not None
    assert alike.grad.isfinite().all()


def test_coral_by_hand_in_both_forms() -> None:
    source, target = torch.randn(7, 3), 2 * torch.randn(5, 3)
    difference = np.cov(source.numpy(), rowvar=False) - np.cov(target.numpy(), rowvar=False)
    assert coral(source, target).item() == pytest.approx((difference**2).sum() / (4 * 9), rel=1e-5)
    assert coral(source, source + 3).item() == pytest.approx(0, abs=1e-6), "means do not count"
    assert released_coral(source, source + 3).item() == pytest.approx(0, abs=1e-6)
    assert released_coral(source, source * torch.tensor([1.0, 2, 3])).item() > 0
    with pytest.raises(ValueError, match="two rows"):
        coral(source[:1], target)


def test_afn_pulls_norms_up() -> None:
    sets, model = domains("sl_module"), still("sl_module")
    learned = loss("source_only", model, sets)
    norms = [
        model(side).parts["embeddings"][side.mask].norm(dim=1)
        for side in (sets.source, sets.target)
    ]
    hard = loss("afn", model, sets, kind="hard", weight=0.1, radius=7.0) - learned
    torch.testing.assert_close(
        hard, 0.1 * sum((n.mean() - 7) ** 2 for n in norms), rtol=1e-4, atol=1e-5
    )
    stepwise = loss("afn", model, sets, weight=0.5, step=2.0) - learned
    torch.testing.assert_close(stepwise, torch.tensor(0.5 * 2 * 4.0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="stepwise, hard"):
        make_domain_objective("afn", kind="soft")


def test_afn_makes_norms_grow() -> None:
    sets, model = domains("sl_module"), still("sl_module")

    def norm() -> float:
        return float(
            model(sets.target).parts["embeddings"][sets.target.mask].norm(dim=1).mean().detach()
        )

    before = norm()
    rounds(model, make_domain_objective("afn", weight=1.0), sets, 10)
    assert norm() > before


def test_revgrad_turns_the_transformer_against_the_discriminator() -> None:
    sets = domains("sl_revgrad")
    gradients = {}
    for progress in (0.0, 0.1, 1.0):
        model = still("sl_revgrad")
        assert isinstance(model, RevGradSL)
        at = replace(sets, progress=progress)
        torch.autograd.backward(loss("revgrad", model, at) - loss("source_only", model, at))
        gradients[progress] = [
            torch.cat([p.grad.flatten() for p in child.parameters() if p.grad is not None])
            for child in (model.encoder, model.discriminator)
        ]
    assert not gradients[0.0][0].abs().max() > 1e-6
    torch.testing.assert_close(gradients[0.1][1], gradients[1.0][1])
    strength = {p: 2 / (1 + math.exp(-10 * p)) - 1 for p in (0.1, 1.0)}
    weak, strong = (gradients[progress][0] / strength[progress] for progress in (0.1, 1.0))
    torch.testing.assert_close(weak, strong, rtol=1e-3, atol=1e-6)
    model = still("sl_revgrad")
    assert isinstance(model, RevGradSL)
    rows = [model(side).parts["embeddings"][side.mask] for side in (sets.source, sets.target)]
    confusion = -model.discriminate(rows[0], 1).sigmoid().log().mean()
    confusion = (confusion - (1 - model.discriminate(rows[1], 1).sigmoid()).log().mean()) / 2
    torch.testing.assert_close(
        loss("revgrad", model, sets) - loss("source_only", model, sets), confusion
    )
    with pytest.raises(ValueError, match="sl_revgrad"):
        loss("revgrad", still("sl_module"), sets)


def test_mcd_alternates_three_steps() -> None:
    steps, sets = make_domain_objective("mcd", transformer_steps=3), domains("sl_mcd")
    assert [(step.name, step.trains, step.repeats) for step in steps] == [
        ("learn", (), 1),
        ("part", ("scorers",), 1),
        ("agree", ("encoder",), 3),
    ]
    model = still("sl_mcd")
    learned, parted, apart = (step.loss(model, sets) for step in steps)
    torch.testing.assert_close(parted, learned - apart)
    answer, mask = model(sets.target), sets.target.mask
    by_hand = [
        (one[there].softmax(0) - two[there].softmax(0)).abs()
        for one, two, there in zip(answer.parts["first"], answer.parts["second"], mask, strict=True)
    ]
    torch.testing.assert_close(apart, torch.cat(by_hand).mean())
    scores = make_domain_objective("mcd", discrepancy="score")[2].loss(model, sets)
    torch.testing.assert_close(
        scores, (answer.parts["first"] - answer.parts["second"])[mask].abs().mean()
    )


@pytest.mark.parametrize(("step", "moved", "grows"), [(1, "scorers", True), (2, "encoder", False)])
def test_mcds_steps_move_what_they_name(step: int, moved: str, grows: bool) -> None:
    sets, model, steps = (
        domains("sl_mcd"),
        still("sl_mcd"),
        make_domain_objective("mcd", discrepancy="score"),
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = steps[2].loss(model, sets).item()
    rounds(model, (steps[step],), sets, 15)
    changed = {
        name.partition(".")[0]
        for name, p in model.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert changed == {moved}
    assert (steps[2].loss(model, sets).item() > first) == grows


def test_mini_nets_loss_equals_the_authors() -> None:
    golden = {
        name: np.array(value)
        for name, value in json.loads(mini.GOLDEN.read_text())["values"].items()
    }
    network = mini.network()
    network.load_state_dict(mini.weights())
    base = batch("mini_net", [mini.SIZE] * mini.BAGS)
    sides = [
        replace(base, features={mini.KEY: torch.from_numpy(rows)}) for rows in mini.bags().values()
    ]
    sets = replace(
        domains("mini_net"), source=sides[0], target=sides[1], mixed=None, is_target=None
    )
    found = loss("mini_net", network, sets)
    assert found.item() == pytest.approx(golden["entropy"] + golden["hinge"], rel=1e-5)
    found.backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        expected = float(golden[f"gradient {mini.their_name(name)}"])
        assert float(parameter.grad.double().norm()) == pytest.approx(
            expected, rel=1e-4, abs=1e-6
        ), name
    with pytest.raises(ValueError, match="numbers differ"):
        loss("mini_net", network, replace(sets, target=batch("mini_net", (4,))))


def test_lims_loss_by_hand() -> None:
    sets, model = domains("lim"), still("lim")
    assert isinstance(model, LIM)
    count = min(int(sets.source.mask.sum()), int(sets.target.mask.sum())) // 3 * 3
    total = torch.zeros(())
    rows = [side.features[model.key][side.mask] for side in (sets.source, sets.target)]
    scores = [model(side).scores[side.mask] for side in (sets.source, sets.target)]
    for start in range(0, count, 3):
        at = slice(start, start + 3)
        weights = model.pair_logits(rows[0][at], rows[1][at]).softmax(0)
        total = total + (weights * (0.5 - scores[0][at] + scores[1][at]).clamp(min=0)).sum()
    torch.testing.assert_close(loss("lim", model, sets, group=3, margin=0.5), total / (count / 3))
    with pytest.raises(ValueError, match="no group of 400"):
        loss("lim", model, sets, group=400)
    with pytest.raises(ValueError, match="the model lim"):
        loss("lim", still("sl_module"), sets)


@pytest.mark.parametrize("name", sorted(DOMAIN_OBJECTIVES))
def test_what_no_mask_allows_is_not_seen(name: str) -> None:
    sets, model = domains(MODEL[name]), still(MODEL[name])

    def spoilt(side: Batch | None) -> Batch | None:
        return None if side is None else with_rubbish(side)

    assert not sets.source.mask.all()
    worse = replace(
        sets,
        source=with_rubbish(sets.source),
        target=with_rubbish(sets.target),
        mixed=spoilt(sets.mixed),
        targets=replace(
            sets.targets, labels=sets.targets.labels.masked_fill(~sets.source.mask, 5.0)
        ),
    )
    for step in make_domain_objective(name):
        assert step.loss(model, worse).item() == step.loss(model, sets).item()


@pytest.mark.parametrize("name", sorted(DOMAIN_OBJECTIVES))
def test_one_round_of_domains_is_learned(name: str) -> None:
    """The first step's loss falls to a part of what it was, above what it cannot fall below."""
    settings: dict[str, Any] = {
        "afn": {"weight": 0.0},
        "revgrad": {"weight": 0.01},
        "mcd": {"transformer_steps": 1},
    }
    steps, sets, model = (
        make_domain_objective(name, **settings.get(name, {})),
        domains(MODEL[name]),
        still(MODEL[name]),
    )
    sets = replace(sets, progress=0.05)
    floor = {"mini_net": 0.3}.get(name, 0.0)
    first = steps[0].loss(model, sets).item()
    rounds(model, steps, sets, 60)
    last = steps[0].loss(model, sets).item()
    assert last - floor < 0.35 * (first - floor), f"from {first} to {last}"


def test_what_is_not_there_is_told_from_what_is() -> None:
    with pytest.raises(KeyError, match="deep_coral"):
        make_domain_objective("jan")
    with pytest.raises(ValueError, match="it has transformer_steps"):
        make_domain_objective("mcd", steps=3)
    for name, wrong in (
        ("mcd", {"discrepancy": "l2"}),
        ("deep_coral", {"covariance": "wrong"}),
        ("lim", {"group": 0}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make_domain_objective(name, **wrong)
    step = Step("part", lambda model, domains: torch.zeros(()), ("scorers",))
    with pytest.raises(ValueError, match="has encoder, scorer"):
        step.trained_children(still("sl_module"))
    with pytest.raises(ValueError, match="'first'"):
        loss("mcd", still("sl_module"), domains("sl_module"))
    without = small("sl_module", has_transformer=False)
    with pytest.raises(ValueError, match="has_transformer"):
        loss("dan", without, domains("sl_module"))
