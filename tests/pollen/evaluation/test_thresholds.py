"""Thresholds are chosen by counts and viability."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.evaluation.evaluate import evaluate
from pollen.evaluation.thresholds import (
    CONFIDENCES,
    ODDS,
    Sweep,
    choose_thresholds,
    mean_viability_error,
    sweep,
)
from tests.pollen.conftest import Prepared
from tests.pollen.evaluation.judging import CARD, known, picture_of

ON_CPU = DetectSettings.model_validate({"device": "cpu"})
SHAPE = len(CONFIDENCES), len(ODDS)


def costing(counts: NDArray[np.float64], viability: float = 0.0) -> Sweep:
    return Sweep("made", counts, np.full(SHAPE, viability), np.zeros(SHAPE))


def test_the_middle_of_a_good_region_is_chosen_and_not_a_lucky_point() -> None:
    cost = np.full(SHAPE, 10.0)
    cost[1, 5] = 0.9  # alone among bad ones
    cost[6:9, 1:4] = 1.0
    chosen = choose_thresholds([costing(cost)])
    assert (chosen.confidence, chosen.viable_odds) == (CONFIDENCES[7], ODDS[2])
    assert chosen.count_error_percent == 1.0


def test_of_equally_good_pairs_the_middle_confidence_at_even_odds_is_taken() -> None:
    cost = np.full(SHAPE, 10.0)
    cost[:11] = 0.0  # the grains of a few pictures are all found anyhow
    chosen = choose_thresholds([costing(cost)])
    assert chosen.viable_odds == 1.0
    assert chosen.confidence == CONFIDENCES[5]


def test_all_sets_have_a_say() -> None:
    first, second = np.full(SHAPE, 10.0), np.full(SHAPE, 10.0)
    first[2:5], second[10:13] = 0.0, 0.0
    first[7], second[7] = 4.0, 4.0
    assert choose_thresholds([costing(first)]).confidence == CONFIDENCES[3]
    assert choose_thresholds([costing(second)]).confidence == CONFIDENCES[11]
    both = choose_thresholds([costing(first), costing(second, viability=3)])
    assert both.viability_error == 1.5


def test_viable_grains_called_non_viable_speak_against_caution() -> None:
    # Caution counts a little better, but calls more viable grains non-viable.
    steps = np.tile(np.arange(len(ODDS), dtype=float), (len(CONFIDENCES), 1))
    cautious = Sweep("made", -steps, np.zeros(SHAPE), 2 * steps)
    assert choose_thresholds([cautious]).viable_odds == ODDS[0]


def test_a_card_takes_them() -> None:
    card = choose_thresholds([costing(np.zeros(SHAPE))]).on(CARD)
    assert (card.confidence in CONFIDENCES, card.viable_odds in ODDS) == (True, True)
    assert card.version == CARD.version


def test_viability_is_judged_group_by_group() -> None:
    # 90 % labelled, 100 % and 80 % found: right on average, 10 points wrong in each group.
    true = np.array([[9, 1], [9, 1]])
    found = np.array([[10, 0], [8, 2]])
    assert mean_viability_error(true, found, ["a", "b"]) == pytest.approx(10)
    assert mean_viability_error(true, found, ["a", "a"]) == pytest.approx(0)


def test_large_groups_weigh_more_and_empty_ones_nothing() -> None:
    true, found = np.array([[30, 0], [10, 0], [0, 0]]), np.array([[30, 0], [5, 5], [1, 0]])
    assert mean_viability_error(true, found, ["a", "b", "c"]) == pytest.approx(50 / 4)
    lost = np.array([[30, 0], [0, 0], [1, 0]])
    assert mean_viability_error(true, lost, ["a", "b", "c"]) == pytest.approx(100 / 4)


@pytest.mark.slow
def test_a_sweep_agrees_with_an_evaluation_at_the_same_thresholds(
    pictures: list[LabelledPicture], bundled: Prepared
) -> None:
    model = bundled.weights, bundled.card, bundled.cache
    swept = sweep("rendered", pictures, *model, ON_CPU)
    reached = evaluate(pictures, *model, ON_CPU)
    place = CONFIDENCES.index(bundled.card.confidence), ODDS.index(bundled.card.viable_odds)
    assert swept.count_error_percent[place] == pytest.approx(
        reached.figures.overall.count_error_percent
    )
    called = reached.figures.called_wrong[GrainClass.VIABLE.label]
    assert swept.called_non_viable[place] == pytest.approx(100 * known(called.fraction))
    # Whoever asks for surer viable grains calls more of them non-viable.
    assert (np.diff(swept.called_non_viable, axis=1) >= 0).all()
    assert np.isfinite(swept.cost).all()


def test_pictures_without_grains_alone_can_choose_nothing(bundled: Prepared) -> None:
    with pytest.raises(PollenError, match="no labelled grain among 1 pictures"):
        sweep("empty", [picture_of(Grains.none())], bundled.weights, bundled.card, bundled.cache)
