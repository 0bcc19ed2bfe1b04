"""The card beside a trained network says what it is, from what, and that random weights prove
nothing.
"""

from __future__ import annotations

from trainer.base.model_card import model_card

ABOUT = {
    "recipe_name": "phd_ca",
    "catalog": "my `films`",
    "is_small": True,
    "seed": 3,
    "epochs": 2,
    "best_epoch": 0,
    "notes": ["c3d-0 is random:0: no result about real videos", "<script>|x|"],
    "recipe": {
        "model": {"name": "phd_ca"},
        "objective": {"name": "hinge"},
        "source": "PHD-GIFs (ACM MM 2018), Table 2",
        "gaps": ["the learning rate"],
    },
    "trained_on": {"c3d": {"extractor": "c3d", "weights": "random:0"}},
    "versions": {"torch": "2.15"},
}


def test_a_card_has_data_weights_licence_and_marks() -> None:
    card = model_card(ABOUT)
    assert card.startswith("# phd_ca, trained on `my films`\n")
    assert "**c3d-0 is random:0: no result about real videos**" in card
    assert "**small widths: a trial, not a result**" in card
    assert "- `c3d`: extractor `c3d`, weights `random:0`" in card
    assert "| seed | 3 |" in card
    assert "No licence is given" in card
    assert "- the learning rate" in card


def test_no_markup_of_a_note_is_read_as_such() -> None:
    assert "- `<script>/x/`" in model_card(ABOUT)
