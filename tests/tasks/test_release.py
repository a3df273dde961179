"""The gate is asked with both models' figures, and what flatters them is said with its answer."""

import pytest

from pollen.dataset.manifest import Split
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.pictures import LabelledPicture
from pollen.gate import GateSettings
from pollen.training.lineage import Lineage
from tasks.release import judge
from tests.pollen.evaluation.judging import judged, perfect, picture_of
from tests.pollen.grain_making import discs
from tests.support.training import CLOSED_GATE, OPEN_GATE


@pytest.fixture
def evaluation() -> Evaluation:
    pictures: list[LabelledPicture] = [
        picture_of(discs([(40, 40), (200, 200)], 50), f"1-1-A_2x_{slide}_1.png") for slide in "AB"
    ]
    return judged(pictures, [perfect(picture) for picture in pictures])


@pytest.mark.parametrize("gate", [OPEN_GATE, CLOSED_GATE], ids=["open", "closed"])
def test_a_base_that_knows_the_plants_is_named_by_the_gate(
    evaluation: Evaluation, gate: GateSettings
) -> None:
    plants = [score.picture.group for score in evaluation.scores]
    base = "bundled", Lineage().and_of(plants)

    plain = judge(evaluation, evaluation, Split.TEST, gate, base=("x", Lineage()), known=Lineage())
    told = judge(evaluation, evaluation, Split.TEST, gate, base=base, known=Lineage())

    assert plain.notices == ()
    (notice,) = told.notices
    assert notice.startswith("the base (bundled) has learnt from the plants of 2 of the 2 pictures")
    assert told.decision.promote == plain.decision.promote
    assert told.decision.reasons == (*plain.decision.reasons, notice)
    assert told.overlaps["base"].pictures == 2
    assert told.overlaps["production"].pictures == 0
