"""Promotion as a flow run over real S3: final states, and that detection uses what was promoted."""

from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from flows.promote import promote
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.models.registry import read_history
from tasks.models.resolve import PRODUCTION, resolve_model
from tasks.storage.store import Location, open_store
from tests.flows.test_flow_run import save_block
from tests.support.models import put_model


@pytest.fixture
def root(prefect_server: EmbeddedPrefect, s3_server: EmbeddedS3, tmp_path: Path) -> Location:
    """Two published models in a bucket that only the block knows how to reach."""
    save_block("promoting", s3_server, "flow/promoting")
    root = Location(block="promoting", prefix="lab")
    for version in ("v1", "v2"):
        put_model(root, tmp_path, version)
    return root


def run(version: str, note: str = "", bucket: str = "promoting") -> State[Any]:
    state = promote(version, note, bucket=bucket, prefix="lab", return_state=True)
    return cast("State[Any]", state)


def test_the_final_states_and_what_they_say(root: Location) -> None:
    state = run("v1", "first")
    assert (state.name, state.message) == (
        "Completed",
        "model v1 is now in production (promotion 1)",
    )
    assert resolve_model(PRODUCTION, root).card.version == "v1"
    state = run("v1")
    assert (state.name, state.is_completed()) == ("NothingNew", True)
    assert run("v2", "better").name == "Completed"
    made = read_history(open_store(root)).current
    assert made is not None
    assert (made.version, made.note) == ("v2", "better")
    assert made.by.startswith("flow run promote v2 in promoting lab")
    state = run("v3")
    assert state.name == "Failed"
    assert "there is no model 'v3'" in str(state.message)
    assert read_history(open_store(root)).highest == 2


def test_a_block_that_was_never_saved(prefect_server: EmbeddedPrefect) -> None:
    state = run("v1", bucket="never-saved")
    assert state.name == "Failed"
    assert "there is no S3Bucket block named 'never-saved'" in str(state.message)


def test_the_form_explains_every_parameter() -> None:
    properties = promote.parameters.properties
    assert list(properties) == ["version", "note", "bucket", "prefix"]
    assert all(parameter["description"] for parameter in properties.values())
    assert promote.parameters.required == ["version"]
