"""Every objective: its formula on numbers worked out by hand, what it does not see, and that a
model can satisfy it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from models.highlight.base.contract import Batch, Scores
from tests.support.model_batches import batch, small
from trainer.base.targets import Targets
from trainer.losses.registry import OBJECTIVES, make_objective

NO_PAIR = [-1, -1]


def targets(given: Batch, seed: int = 0) -> Targets:
    """A third of the positions are highlights, the first always and the second never; pairs are all
    there are.
    """
    positive = (
        torch.rand(given.mask.shape, generator=torch.Generator().manual_seed(seed)) < 1 / 3
    ) & given.mask
    positive[:, 0], positive[:, 1] = True, False
    pairs: list[list[list[int]]] = []
    for highlights, mask in zip(positive, given.mask, strict=True):
        others = (mask & ~highlights).nonzero().flatten().tolist()
        pairs.append([[p, n] for p in highlights.nonzero().flatten().tolist() for n in others])
    most = max(map(len, pairs))
    padded = torch.tensor([of_one + [NO_PAIR] * (most - len(of_one)) for of_one in pairs])
    return Targets(labels=positive.float(), positive=positive, pairs=padded)


SCORES = torch.tensor([[2.0, 1.5, 4.0]])
PAIRS = torch.tensor([[[0, 1], [2, 0], NO_PAIR, [1, 2]]])
"""Differences .5, 2 and -2.5, so u = 1 - difference is .5, -1 and 3.5."""
HAND = Targets(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool), PAIRS)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("hinge", {}, (0.5 + 0 + 3.5) / 3),
        ("hinge", {"power": 2}, (0.25 + 0 + 12.25) / 3),
        ("hinge", {"margin": 3.0}, (2.5 + 1 + 5.5) / 3),
        ("adaptive_huber", {}, (0.125 + 0 + 1.5 * 3.5 - 1.125) / 3),
        ("adaptive_huber", {"delta": 0.5}, (0.125 + 0 + 0.5 * 3.5 - 0.125) / 3),
    ],
)
def test_ranking_losses_by_hand(name: str, settings: dict[str, Any], expected: float) -> None:
    loss = make_objective(name, **settings)(Scores(SCORES), batch("phd_ca"), HAND)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["hinge", "adaptive_huber"])
def test_a_batch_without_pairs_is_a_mistake(name: str) -> None:
    nothing = replace(HAND, pairs=torch.full((1, 2, 2), -1))
    with pytest.raises(ValueError, match="needs pairs"):
        make_objective(name)(Scores(SCORES), batch("phd_ca"), nothing)


def test_cross_entropy_is_that_of_a_vhd_over_each_video() -> None:
    given = batch("fcsn")
    logits, wanted = torch.randn(*given.mask.shape, 2), targets(given)
    found = make_objective("cross_entropy")(
        Scores(logits[..., 1], {"logits": logits}), given, wanted
    )
    # utils.cross_entropy2d of mrochan/adaptive-highlight: the mean of each position's loss, one
    # video a batch
    lengths = given.mask.sum(dim=1)
    of_each = [
        functional.cross_entropy(logits[user, :length], wanted.positive[user, :length].long())
        * length
        for user, length in enumerate(lengths)
    ]
    torch.testing.assert_close(found, torch.stack(of_each).sum() / lengths.sum())
    weighted = make_objective("cross_entropy", positive_weight=10.0)(
        Scores(logits[..., 1], {"logits": logits}), given, wanted
    )
    each = -logits.log_softmax(dim=-1).gather(-1, wanted.positive.long().unsqueeze(-1)).squeeze(-1)
    weights = (1 + 9 * wanted.positive.float()) * given.mask
    torch.testing.assert_close(weighted, (each * weights).sum() / weights.sum())


def test_binary_cross_entropy_by_hand() -> None:
    given = batch("video2gif_ours")
    scores, wanted = torch.randn(given.mask.shape), targets(given)
    found = make_objective("binary_cross_entropy", positive_weight=4.0)(
        Scores(scores), given, wanted
    )
    each = torch.where(wanted.positive, -4 * scores.sigmoid().log(), -(1 - scores.sigmoid()).log())
    torch.testing.assert_close(found, each[given.mask].mean())
    with pytest.raises(ValueError, match="cross_entropy"):
        make_objective("binary_cross_entropy")(Scores(scores, {"logits": scores}), given, wanted)


OF_ONE_MODEL = {
    name
    for name in OBJECTIVES
    if name.startswith(("pr_net", "mha_fusion", "bidirectional", "pld_vhd"))
}
"""Objectives that read what only their own model answers; their own tests hold them to this."""


def test_reconstruction_by_hand() -> None:
    present = torch.tensor([[[True, False], [False, False]]])
    poses, given_back = torch.zeros(1, 2, 2, 17, 2), torch.full((1, 2, 2, 17, 2), 3.0)
    parts = {"poses": poses, "reconstruction": given_back, "present": present}
    scores = Scores(torch.tensor([[0.5, 0.9]]), parts)
    assert make_objective("reconstruction", sparsity=0.2)(
        scores, batch("fcsn"), HAND
    ).item() == pytest.approx(9 + 0.2 * 0.5)
    nobody = Scores(scores.scores, {**parts, "present": torch.zeros_like(present)})
    assert make_objective("reconstruction")(nobody, batch("fcsn"), HAND).item() == 0


@pytest.mark.parametrize("name", sorted(name for name in OBJECTIVES if name not in OF_ONE_MODEL))
def test_what_no_mask_allows_is_not_seen(name: str) -> None:
    model = {"cross_entropy": "fcsn", "reconstruction": "highlight_me"}.get(name, "video2gif_ours")
    given = batch(model)
    answer = small(model)(given)
    outside = ~given.mask
    spoilt = Scores(
        answer.scores.masked_fill(outside, 1e6),
        {
            key: part
            if part.dtype == torch.bool
            else part.masked_fill(outside.view(*outside.shape, *[1] * (part.ndim - 2)), 1e6)
            for key, part in answer.parts.items()
        },
    )
    wanted, loss = targets(given), make_objective(name)
    assert loss(spoilt, given, wanted).item() == loss(answer, given, wanted).item()


@pytest.mark.parametrize(
    ("name", "model", "settings"),
    [
        ("hinge", "phd_ca", {}),
        ("hinge", "phd_ca", {"power": 2}),
        ("adaptive_huber", "video2gif", {}),
        ("binary_cross_entropy", "phd_ca", {"positive_weight": 3.0}),
        ("cross_entropy", "a_vhd", {}),
        ("reconstruction", "highlight_me", {"sparsity": 0.0}),
    ],
)
def test_one_batch_is_learned_by_heart(name: str, model: str, settings: dict[str, Any]) -> None:
    given = batch(model, (12, 8), ((2, 1), (1,)))
    wanted, network, loss = targets(given), small(model), make_objective(name, **settings)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    first = loss(network(given), given, wanted).item()
    for _ in range(400):
        optimizer.zero_grad()
        torch.autograd.backward(loss(network(given), given, wanted))
        optimizer.step()
    last = loss(network(given), given, wanted).item()
    assert last < 0.02 * first, f"from {first} to {last}"


def test_what_is_not_there_is_told_from_what_is() -> None:
    with pytest.raises(KeyError, match="adaptive_huber"):
        make_objective("hinges")
    with pytest.raises(ValueError, match="it has power, margin"):
        make_objective("hinge", marign=2)
    with pytest.raises(ValueError, match="power must be 1 or 2"):
        make_objective("hinge", power=3)(Scores(SCORES), batch("phd_ca"), HAND)
