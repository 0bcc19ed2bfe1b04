"""SL-module and DL-VHD with their losses beside the authors' code: committed numbers, and the code
itself if there.

`HIGHLIGHTS_REFERENCES=FOLDER PYTHONPATH=EINOPS pytest -m slow
tests/trainer/losses/test_set_kl.py`, where FOLDER holds a checkout of
ChrisAllenMing/Cross_Category_Video_Highlight of that name, and EINOPS einops 0.3.0.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch, Scores
from models.highlight.generic.dl_vhd import DLVHDSettings
from models.highlight.registry import HIGHLIGHT_MODELS
from tests.models.goldens import make_cross_category as maker
from tests.models.goldens.reference import Arrays, checkout
from tests.support.domain_batches import MODEL, domains, labelled
from tests.support.model_batches import batch, small
from trainer.base.targets import Targets
from trainer.config.recipe import load_recipe
from trainer.losses.registry import make_domain_objective
from trainer.losses.set_based.domain_steps import DomainBatch
from trainer.losses.set_based.set_kl import kl_per_set, set_divergence
from trainer.training.distributed import DistributedContext
from trainer.training.train_step import DomainSteps

GOLDEN = json.loads(maker.GOLDEN.read_text())["values"]
OBJECTIVE: dict[str, tuple[str, dict[str, Any]]] = {
    "sl": ("source_only", {}),
    "dl": ("dl_vhd", {"distillation": maker.DISTILLATION}),
    "mmd": ("dan", {"is_cut": True}),
    "coral": ("deep_coral", {"covariance": "released", "is_cut": True}),
}


def one_set(rows: Tensor) -> Batch:
    """`(N, D)` → a batch of one set."""
    mask = torch.ones(1, len(rows), dtype=torch.bool)
    nothing = torch.zeros(1, 0, 0)
    spans = torch.zeros(1, len(rows), 2, dtype=torch.float64)
    return Batch(
        {maker.KEY: rows[None]},
        mask,
        spans,
        {},
        nothing.bool(),
        nothing[..., None].expand(-1, -1, -1, 2),
    )


def given(width: int) -> DomainBatch:
    """The maker's rows, mixed as the authors' code mixes them."""
    rows = {name: torch.from_numpy(array) for name, array in maker.rows(width).items()}
    labels = rows["labels"][None]
    targets = Targets(labels, labels > 0, torch.full((1, 0, 2), -1))
    size = min(maker.SOURCE, maker.TARGET)
    of_target = int(size * maker.RATIO)
    own, other = rows["source_order"][: size - of_target], rows["target_order"][:of_target]
    mixed = one_set(torch.cat([rows["source"][own], rows["target"][other]]))
    is_target = torch.arange(size)[None] >= size - of_target
    return DomainBatch(one_set(rows["source"]), targets, one_set(rows["target"]), mixed, is_target)


def ours(what: str, has_transformer: bool, width: int) -> tuple[nn.Module, float, Tensor]:
    """The network with its gradients, the loss, and the scores of the source."""
    network = maker.network(what, has_transformer, width)
    network.load_state_dict(
        {name: t for name, t in maker.weights(what, width).items() if name in network.state_dict()}
    )
    name, settings = OBJECTIVE[what]
    (step,) = make_domain_objective(name, form="released", **settings)
    sets = given(width)
    loss = step.loss(network, sets)
    loss.backward()  # type: ignore[no-untyped-call]
    return network, loss.item(), network(sets.source).scores[0].detach()


def errors(what: str, has_transformer: bool, expected: Arrays, width: int) -> dict[str, float]:
    """Relative errors of the loss and of each gradient's norm, and the largest one of scores."""
    network, loss, scores = ours(what, has_transformer, width)
    logged = {
        name.removeprefix("loss "): float(np.ravel(v)[0])
        for name, v in expected.items()
        if name[:5] == "loss "
    }
    weight = {"distill_loss": maker.DISTILLATION}
    total = sum(value * weight.get(name, 1.0) for name, value in logged.items())
    found = {
        "loss": abs(loss - total) / total,
        "scores": float(abs(scores.numpy() - expected["scores"]).max()),
    }
    norms = {
        name: float(np.ravel(v)[0]) for name, v in expected.items() if name.startswith("gradient ")
    }
    largest = max(norms.values())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        norm = norms.pop(f"gradient {maker.their_name(name)}")
        found[name] = abs(float(parameter.grad.double().norm()) - norm) / largest
    assert not norms, "gradients of theirs that we lack"
    return found


@pytest.mark.parametrize(("what", "has_transformer"), maker.CASES)
def test_the_released_form_equals_the_authors(what: str, has_transformer: bool) -> None:
    expected = {
        name: np.array(value) for name, value in GOLDEN[f"{what} {has_transformer}"].items()
    }
    assert expected["scores"].std() > 0.05
    found = errors(what, has_transformer, expected, maker.WIDTH)
    assert max(found.values()) <= 1e-5, found


@pytest.mark.slow
@pytest.mark.parametrize(("what", "has_transformer"), maker.CASES)
def test_larger_networks_equal_the_authors(what: str, has_transformer: bool) -> None:
    folder = checkout("Cross_Category_Video_Highlight")
    found = errors(what, has_transformer, maker.reference(what, has_transformer, folder, 512), 512)
    sys.stdout.write(
        f"{what} {has_transformer}: loss {found['loss']:.1e}, scores {found['scores']:.1e}, "
    )
    sys.stdout.write(
        f"gradients {max(v for k, v in found.items() if k not in ('loss', 'scores')):.1e}\n"
    )
    assert max(found.values()) <= 1e-5, found


def test_both_forms_are_torchs_divergence() -> None:
    wanted, scores = torch.randn(3, 7), torch.randn(3, 7)
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    paper, released = (
        kl_per_set(wanted, scores, mask),
        kl_per_set(wanted, scores, mask, form="released"),
    )
    for row, length in enumerate((7, 4, 1)):
        each = functional.kl_div(
            scores[row, :length].log_softmax(0), wanted[row, :length].softmax(0), reduction="none"
        )
        torch.testing.assert_close(paper[row], each.sum())
        torch.testing.assert_close(released[row], each.mean())


def test_labels_are_read_as_asked() -> None:
    given = batch("sl_module", (4,))
    labels = torch.tensor([[1.0, 0.99, 0.0, -1.0]])
    targets = Targets(labels, labels > 0.6, torch.full((1, 0, 2), -1))
    for name, read in (
        ("value", labels),
        ("positive", torch.tensor([[1.0, 1, 0, 0]])),
        ("truncated", torch.tensor([[1.0, 0, 0, -1]])),
    ):
        loss = set_divergence(Scores(read), given, targets, labels=name)  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(0, abs=1e-6), "scores that are the labels"
    with pytest.raises(ValueError, match="truncated"):
        set_divergence(Scores(labels), given, targets, labels="float")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="released"):
        set_divergence(Scores(labels), given, targets, form="code")  # type: ignore[arg-type]


def test_the_released_form_leaves_out_sets_without_a_highlight() -> None:
    given = batch("sl_module", (6, 6))
    scores, labels = torch.randn(2, 6), -torch.ones(2, 6)
    labels[0, 2] = 1
    targets = Targets(labels, labels > 0, torch.full((2, 0, 2), -1))
    each = kl_per_set(labels, scores, given.mask, form="released")
    torch.testing.assert_close(
        set_divergence(Scores(scores), given, targets, form="released"), each[0]
    )
    paper = kl_per_set(labels, scores, given.mask)
    torch.testing.assert_close(set_divergence(Scores(scores), given, targets), paper.mean())
    nothing = replace(targets, labels=-torch.ones(2, 6))
    assert set_divergence(Scores(scores), given, nothing, form="released").item() == 0


RELEASED: dict[str, dict[str, Any]] = {
    "source_only": {},
    "dan": {"is_cut": True},
    "deep_coral": {"covariance": "released", "is_cut": True},
    "dl_vhd": {},
}


def only_first_has_one(name: str) -> DomainBatch:
    """Two sets; the second holds no highlight."""
    sets = domains(MODEL[name])
    labels = sets.targets.labels.clone()
    labels[1] = labels[1].clamp(max=0)
    return replace(sets, targets=replace(sets.targets, labels=labels, positive=labels > 0))


@pytest.mark.parametrize("name", RELEASED)
def test_the_whole_step_of_a_set_without_a_highlight_is_skipped(name: str) -> None:
    """In the code `continue` stands before the target set is looked at: it must not adapt or distil
    either.
    """
    model = small(MODEL[name], dropout=0.0)
    (step,) = make_domain_objective(name, form="released", **RELEASED[name])
    both, first = only_first_has_one(name), torch.tensor([True, False])
    by_hand = DomainBatch(
        cut(both.source, first),
        cut(both.targets, first),
        cut(both.target, first),
        None if both.mixed is None else cut(both.mixed, first),
        None if both.is_target is None else both.is_target[:1],
    )
    torch.testing.assert_close(step.loss(model, both), step.loss(model, by_hand))
    (paper,) = make_domain_objective(name, **RELEASED[name])
    assert paper.loss(model, both) != paper.loss(model, by_hand), "the paper skips nothing"
    changed = replace(
        both,
        target=replace(both.target, features={k: v * 9 for k, v in both.target.features.items()}),
    )
    nothing = replace(
        changed, targets=replace(both.targets, labels=both.targets.labels.clamp(max=0))
    )
    loss = step.loss(model, nothing)
    assert (loss.item(), loss.requires_grad) == (0, False)


def cut(part: Any, rows: Tensor) -> Any:
    """The chosen rows of a batch, or of its targets."""
    values = {one.name: getattr(part, one.name) for one in fields(part)}
    return replace(
        part,
        **{
            name: value[rows]
            if isinstance(value, Tensor)
            else {key: tensor[rows] for key, tensor in value.items()}
            for name, value in values.items()
        },
    )


@pytest.mark.parametrize("name", ["dl_vhd_released", "sl_dan_released", "sl_coral_released"])
def test_a_skipped_step_moves_no_weight_of_a_released_recipe(name: str) -> None:
    """Neither by momentum nor by weight decay; the step before and the step after do."""
    recipe = load_recipe(name, small=True)
    full = domains("dl_vhd")
    shapes = {key: tuple(values.shape[2:]) for key, values in full.source.features.items()}
    model = recipe.spec.build(recipe.model_settings, shapes)
    updates = DomainSteps(
        recipe,
        model,
        DistributedContext(),
        make_domain_objective(recipe.objective, **recipe.objective_settings),
    )
    empty = replace(full, targets=replace(full.targets, labels=full.targets.labels.clamp(max=0)))
    states = []
    for given in (full, empty, full):
        updates.step(given)
        states.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[1][key], states[2][key]) for key in states[0])


def test_what_dl_vhd_trains_follows_its_settings() -> None:
    """Each part by hand, in the paper's form."""
    model, sets = small("dl_vhd", dropout=0.0), domains("dl_vhd")
    assert sets.mixed is not None
    assert sets.is_target is not None
    full, without = (
        make_domain_objective("dl_vhd", distillation=weight)[0].loss(model, sets)
        for weight in (2.0, 0.0)
    )
    fine = set_divergence(Scores(model(sets.source).parts["fine"]), sets.source, sets.targets)
    coarse = kl_per_set(
        sets.is_target.float(), model(sets.mixed).parts["coarse"], sets.mixed.mask
    ).mean()
    torch.testing.assert_close(without, fine + coarse)
    answer, mask = model(sets.target), sets.target.mask
    each = [
        kl_per_set(answer.scores, answer.parts[name], mask).mean() for name in ("coarse", "fine")
    ]
    torch.testing.assert_close(full - without, (each[0] + each[1]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learner", ["coarse", "fine"])
def test_a_single_learner_is_trained_on_its_own_loss(learner: str) -> None:
    spec = HIGHLIGHT_MODELS["dl_vhd"]
    assert spec.settings is DLVHDSettings
    model, sets = small("dl_vhd", dropout=0.0, learners=learner), domains("dl_vhd")
    answer = model(sets.source)
    torch.testing.assert_close(answer.scores, answer.parts[learner])
    (step,) = make_domain_objective("dl_vhd")
    if learner == "fine":
        (alone,) = make_domain_objective("source_only")
        torch.testing.assert_close(step.loss(model, sets), alone.loss(model, sets))
    else:
        spoilt = replace(sets, targets=labelled(sets.source, seed=5))
        torch.testing.assert_close(step.loss(model, sets), step.loss(model, spoilt), rtol=0, atol=0)
        with pytest.raises(ValueError, match="sample_two_domains"):
            step.loss(model, replace(sets, mixed=None, is_target=None))


def test_the_mean_that_learners_are_drawn_to_has_no_gradient_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (
        torch.randn(3, 7, dtype=torch.float64, generator=generator, requires_grad=True)
        for _ in range(2)
    )
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    for form in ("paper", "released"):
        found = []
        for teacher in ((coarse + fine) / 2, ((coarse + fine) / 2).detach()):
            loss = kl_per_set(teacher, coarse, mask, form=form) + kl_per_set(
                teacher, fine, mask, form=form
            )
            found.append(torch.cat(torch.autograd.grad(loss.sum(), (coarse, fine))))
        torch.testing.assert_close(*found, rtol=0, atol=1e-15)
        assert found[0].abs().max() > 0.01
