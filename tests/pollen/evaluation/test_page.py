"""The page says what was measured, stands alone, and cannot be broken by names."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pollen.dataset.labelled import LabelledPicture
from pollen.dataset.manifest import Split
from pollen.detection.grains import Grains
from pollen.evaluation.charts import draw_charts
from pollen.evaluation.disagreement import draw_disagreements
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.page import MOST_ROWS, PageData, render_page
from pollen.evaluation.record import Decision
from tests.pollen.evaluation.judging import CARD, judged, other_class, perfect, picture_of
from tests.pollen.grain_making import discs


class _Text(HTMLParser):
    """Text of a page, and every address in it."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def read(page: str) -> tuple[str, list[str]]:
    parser = _Text()
    parser.feed(page)
    return " ".join(" ".join(parser.text).split()), parser.addresses


@pytest.fixture(scope="module")
def new(pictures: list[LabelledPicture]) -> Evaluation:
    found = [perfect(picture) for picture in pictures]
    found[0] = found[0].take(np.arange(1, len(found[0])))
    return judged(pictures, found)


@pytest.fixture(scope="module")
def production(pictures: list[LabelledPicture]) -> Evaluation:
    found = [perfect(picture) for picture in pictures]
    found[1] = Grains.none()
    card = CARD.model_copy(update={"version": "model-0"})
    return judged(pictures, found, card)


def test_both_models_stand_side_by_side(new: Evaluation, production: Evaluation) -> None:
    charts = draw_charts(new, production)
    shown = draw_disagreements(new, production)
    text, addresses = read(render_page(PageData(new, production, Split.TEST, charts, shown)))
    assert "Measured on 4 pictures of 2 plants (2 slides) with 24 labelled grains" in text
    assert "the new model found 23" in text
    assert "compared with model model-0, which detection uses now" in text
    assert (
        "closer to the labels than the count of the production model on 1 pictures, further away on 1, "
        "and equally far on 2" in text
    )
    assert "Where the two models disagree most" in text
    assert len(addresses) == len(charts) + sum(len(picture.panels) for picture in shown)
    assert all(address.startswith("data:image/") for address in addresses)


def test_one_model_alone_is_compared_with_the_labels(new: Evaluation) -> None:
    data = PageData(new, None, Split.TEST, {}, draw_disagreements(new, None))
    page = render_page(data)
    text, _ = read(page)
    assert "Where model and labels disagree most" in text
    assert "production" not in text
    assert page == render_page(data)


def test_figures_of_val_come_with_a_warning(new: Evaluation) -> None:
    warning = "split also chose the weights"
    assert warning in read(render_page(PageData(new, None, Split.VAL, {})))[0]
    assert warning not in read(render_page(PageData(new, None, Split.TEST, {})))[0]


def test_the_gate_speaks(new: Evaluation) -> None:
    refused = Decision(promote=False, reasons=("count error: 9.00 %, allowed are 8 %",))
    text, _ = read(render_page(PageData(new, None, Split.TEST, {}, decision=refused)))
    assert "does not go into production by itself" in text
    assert refused.reasons[0] in text
    passed = Decision(promote=True, reasons=("all is well",))
    text, _ = read(render_page(PageData(new, None, Split.TEST, {}, decision=passed)))
    assert "The model goes into production." in text


def test_the_better_figure_is_marked(new: Evaluation, production: Evaluation) -> None:
    page = render_page(PageData(new, production, Split.TEST, {}))
    missed = re.search(r"<td>missed grains</td>(.*?)</tr>", page, re.DOTALL)
    assert missed
    assert re.findall(r'<td class="n( better)?">(\d+)</td>', missed[1]) == [
        (" better", "1"),
        ("", "8"),
    ]


def test_hostile_names_stay_text(pictures: list[LabelledPicture]) -> None:
    evil = '<script>alert("x")</script>'
    picture = picture_of(discs([(50, 50)], 30), evil, group=evil, slide=evil)
    page = render_page(
        PageData(judged([picture], [Grains.none()]), None, Split.TEST, {}, facts={evil: evil})
    )
    assert "<script" not in page
    assert evil in read(page)[0]


def test_what_is_unknown_is_a_dash() -> None:
    empty = judged([picture_of(Grains.none())], [Grains.none()])
    text, _ = read(render_page(PageData(empty, empty, Split.TEST, draw_charts(empty, empty))))
    assert "Viability: not known, because no grain is labelled" in text
    assert "nan" not in text
    assert "None" not in text


def test_many_slides_are_cut_with_a_note() -> None:
    one = discs([(50, 50)], 30)
    many = [picture_of(one, f"{n}", slide=f"slide-{n}") for n in range(MOST_ROWS + 5)]
    text, _ = read(render_page(PageData(judged(many, [one] * len(many)), None, Split.TEST, {})))
    assert f"The {MOST_ROWS} with most grains of {MOST_ROWS + 5}" in text
    assert text.count("slide-") == MOST_ROWS


def test_a_mistake_is_put_into_the_biologists_units() -> None:
    truth = discs([(60 * i + 50, 50) for i in range(10)], 40)
    found = Grains.concatenate(
        [other_class(truth.take(np.arange(1))), truth.take(np.arange(1, 10))]
    )
    text, _ = read(
        render_page(PageData(judged([picture_of(truth)], [found]), None, Split.TEST, {}))
    )
    assert "it calls 10.0 % (1 of 10 grains of 1 pictures; 95 % interval" in text
    assert "99 % viable, this error alone would lower the result to 89.1 %" in text


def test_what_flatters_the_figures_stands_above_them(new: Evaluation) -> None:
    said = ["the base (x) has learnt from the plants of 2 of the 3 pictures of test"]
    decision = Decision(promote=False, reasons=("it is bad", *said))
    page = render_page(PageData(new, None, Split.TEST, {}, decision=decision, notices=said))
    text, _ = read(page)
    assert page.count(said[0][1:]) == 1, "it is said once"
    assert "it is bad" in text
    assert "The base (x) has learnt from the plants of 2 of the 3 pictures of test." in text
    assert text.index("The base (x)") < text.index("In words")
