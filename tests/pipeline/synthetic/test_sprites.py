"""Figures that perform: told from quiet ones by how they move and by nothing else, and their places
are told true.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.synthetic.sprites import (
    FIGURES,
    MANNERS,
    QUIET_MANNERS,
    RenderedSegment,
    SegmentStyle,
    random_segment_style,
    render_segment,
)

TIMES = np.arange(24) / 12
SEED = 3
PERFORMANCES = {"disc": "hop", "bar": "turn", "ring": "circle", "cross": "dash"}


def drawn(
    figure: str, manner: str, rng: np.random.Generator, times: NDArray[np.float64] = TIMES
) -> RenderedSegment:
    return render_segment(figure, manner, random_segment_style(rng), times, width=96, height=64)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_where_it_is_said_to_be_and_stands_out(figure: str) -> None:
    for manner in MANNERS:
        shown = drawn(figure, manner, np.random.default_rng(SEED))
        assert shown.pictures.shape == (24, 64, 96, 3)
        assert (shown.figure_masks.any(axis=(1, 2))).all(), "it never leaves the picture"
        assert 0.02 < shown.figure_masks.mean() < 0.15
        light = shown.pictures.max(axis=3).astype(int)
        assert light[shown.figure_masks].min() > light[~shown.figure_masks].mean() + 60


def test_there_is_no_other_manner() -> None:
    with pytest.raises(KeyError):
        drawn("disc", "leap", np.random.default_rng(SEED))


@pytest.mark.parametrize("figure", FIGURES)
def test_where_and_how_large_a_figure_is_has_the_same_spread_whatever_it_does(figure: str) -> None:
    """Middle and size in one frame of each of 400 looks: quantiles of every manner lie where those
    of stillness do.
    """
    rng = np.random.default_rng(SEED)
    looks = [random_segment_style(rng) for _ in range(400)]
    found = {}
    for manner in ("still", *MANNERS[QUIET_MANNERS:]):
        covers = [
            render_segment(figure, manner, look, TIMES[9:10], width=96, height=64).figure_masks[0]
            for look in looks
        ]
        found[manner] = np.array(
            [[*np.argwhere(cover).mean(0), np.sqrt(cover.sum())] for cover in covers]
        )
    spread = found["still"].std(0)
    for manner, numbers in found.items():
        apart = np.abs(
            np.quantile(numbers, [0.1, 0.5, 0.9], axis=0)
            - np.quantile(found["still"], [0.1, 0.5, 0.9], 0)
        )
        assert (apart < 0.3 * spread).all(), manner


def with_bystander(look: SegmentStyle, number: float) -> SegmentStyle:
    """The same, with another number for what the bystander does."""
    numbers = look.numbers.copy()
    numbers[-1] = number
    return SegmentStyle(look.colours, numbers)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_bystander_is_seen_beside_the_figure_and_never_told_of(figure: str) -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(5):
        look = random_segment_style(rng)
        quiet, moving = (
            render_segment(
                figure, "still", with_bystander(look, number), TIMES, width=96, height=64
            )
            for number in (0.1, 0.9)
        )
        assert (quiet.figure_masks == moving.figure_masks).all()
        other = (look.colours[3] * 255).round()
        is_bystander = (np.abs(quiet.pictures.astype(float) - other) < 2).all(
            axis=3
        ) & ~quiet.figure_masks
        assert is_bystander.sum((1, 2)).min() > 50, (
            "it stands out, and the figure hides at most a part of it"
        )
        assert (quiet.pictures != moving.pictures).any(axis=(0, 3)).sum() > 50


def test_what_a_bystander_does_is_anything_and_says_nothing_of_the_figure() -> None:
    """It is drawn with the look, which is drawn before anybody knows what the figure will do."""
    rng = np.random.default_rng(SEED)
    found = [random_segment_style(rng).bystander for _ in range(2000)]
    counts = {manner: found.count(manner) / 2000 for manner in MANNERS}
    shares = [1 / (2 * QUIET_MANNERS)] * QUIET_MANNERS + [
        1 / (2 * (len(MANNERS) - QUIET_MANNERS))
    ] * 4
    assert list(counts.values()) == pytest.approx(shares, abs=0.04)


def change(shown: RenderedSegment) -> float:
    """Share of the figure's pixels that are none in the next frame."""
    covers = shown.figure_masks
    return float((covers[:-1] & ~covers[1:]).sum() / covers[:-1].sum())


@pytest.mark.parametrize("figure", FIGURES)
def test_who_performs_moves_and_who_is_quiet_hardly_does(figure: str) -> None:
    rng = np.random.default_rng(SEED)
    performing = [change(drawn(figure, PERFORMANCES[figure], rng)) for _ in range(10)]
    quiet = [change(drawn(figure, manner, rng)) for manner in ("still", "drift") for _ in range(5)]
    assert min(performing) > 2 * max(quiet)


def one_frame(shown: RenderedSegment) -> NDArray[np.float64]:
    """What a single frame could tell by: the figure's middle, size and colour, the ground's colour,
    contrast.
    """
    picture, cover = shown.pictures[0] / 255, shown.figure_masks[0]
    rows, columns = np.nonzero(cover)
    where = [rows.mean(), columns.mean(), cover.sum()]
    return np.array([*where, *picture[cover].mean(0), *picture[~cover].mean(0), picture.std()])


@pytest.mark.parametrize("figure", FIGURES)
def test_a_single_frame_does_not_tell_who_performs(figure: str) -> None:
    """A linear rule on looks, fitted to 60 frames of each kind, asked about 60 others."""
    rng = np.random.default_rng(SEED)
    kinds = np.arange(240) % 2
    manners = ("still", PERFORMANCES[figure])
    looks = np.array([one_frame(drawn(figure, manners[kind], rng, TIMES[9:10])) for kind in kinds])
    looks = np.c_[(looks - looks.mean(0)) / looks.std(0), np.ones(240)]
    weights = np.linalg.lstsq(looks[:120], kinds[:120] - 0.5, rcond=None)[0]
    right = float(((looks[120:] @ weights > 0) == kinds[120:]).mean())
    assert right < 0.65, f"seed {SEED}: {right:.2f} right, chance is 0.5"


def test_pictures_are_the_same_on_every_machine() -> None:
    """A digest that was computed once: no operation that processors round apart may reach a
    pixel.
    """
    rng = np.random.default_rng(SEED)
    digest = hashlib.sha256()
    for figure in FIGURES:
        for manner in MANNERS:
            digest.update(drawn(figure, manner, rng).pictures.tobytes())
    assert digest.hexdigest()[:16] == "d7eaf14a780773bc"
