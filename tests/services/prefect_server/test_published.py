"""What runs publish for the Prefect pages, which is Markdown there, is read back as it was meant."""

from prefect.client.schemas.objects import Artifact

from pollen.reports.pages import markdown
from services.prefect_server.published import failed_images, percent_of, progress_of

NAME = "a|b`c_d <e> ![f](//www.g).png"


def test_names_and_words_are_what_they_were_before_they_were_shown() -> None:
    rows = [{"filename": markdown(NAME), "reason": markdown(f"{NAME}: it is *cut* off")}]
    told = [
        Artifact(key="failed-images", data=rows, description="3 failed"),
        Artifact(key="training-progress", data=50.0, description=markdown(f"2 of 4: {NAME}")),
        Artifact(key="batch-progress", data=10.0, description="a part of it"),
    ]
    assert failed_images(told) == (((NAME, f"{NAME}: it is *cut* off"),), 3)
    assert progress_of(told) == f"50 %: 2 of 4: {NAME}"
    assert percent_of(told) == 50.0
