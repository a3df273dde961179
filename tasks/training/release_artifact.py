"""The artifact of a trained model in the Prefect UI: the gate's decision, figures beside production, charts."""

from typing import Final

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from pollen.errors import PollenError
from pollen.evaluation.comparison import SHOWN, chart_lines, comparison_lines, small_chart
from pollen.evaluation.record import Metrics
from pollen.layout import model_folder
from pollen.reports.pages import code, markdown
from pollen.reports.summary import LOGIN_NOTE
from tasks.progress import best_effort
from tasks.stage import logger
from tasks.storage.store import Store

KEY: Final = "training-summary"


def show_model(store: Store, version: str, message: str, metrics: Metrics) -> None:
    """Show a model in the Prefect UI, if a flow run is under way; a failure here never fails the run.

    Args:
        store: The registry.
        version: Of the model.
        message: The message of the run.
        metrics: Its figures and the gate's decision.
    """
    if FlowRunContext.get() is None:
        return
    page = model_folder(version) + "evaluation.html"
    url = store.link(page)
    with best_effort("the model"):
        lines = [
            f"# Model {markdown(version)}",
            "",
            *(f"* {markdown(reason)}" for reason in (metrics.gate.reasons if metrics.gate else ())),
            "",
            *comparison_lines(metrics),
            *chart_lines(_charts(store, version)),
            "",
            "All figures and charts: "
            + code(f"{store.address}/{page}")
            + (f" ([open]({url}))" if url else ""),
            *(["", LOGIN_NOTE] if url else []),
        ]
        create_markdown_artifact("\n".join(lines) + "\n", key=KEY, description=markdown(message))


def _charts(store: Store, version: str) -> dict[str, bytes]:
    """Return small copies of those charts that are stored with the model."""
    small = {}
    for name in SHOWN:
        try:
            chart = small_chart(store.read(f"{model_folder(version)}charts/{name}"))
        except (PollenError, OSError) as error:
            logger().info("%s is not shown in the Prefect UI: %s", name, error)
            continue
        if chart:
            small[name] = chart
    return small
