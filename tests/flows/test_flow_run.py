"""The story as a Prefect flow run over real S3: blocks, final states, artifacts."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact, State
from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket
from pydantic import SecretStr

from flows.detect import detect_here
from pollen.layout import INPUTS
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.storage.store import Location
from tests.support.pictures import picture
from tests.support.runs import (
    BUCKET,
    COUNTS,
    MODEL,
    bucket_tables,
    objects,
    rows,
    settings,
    tiles_counted,
    upload,
)

Detect = Callable[..., State[Any]]


def save_block(name: str, server: EmbeddedS3, folder: str = "", **parameters: object) -> None:
    """Save a block that knows all there is to know of a server."""
    S3Bucket(
        bucket_name=BUCKET,
        bucket_folder=folder,
        credentials=AwsCredentials(
            aws_access_key_id=server.access_key,
            aws_secret_access_key=SecretStr(server.secret_key),
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters.model_validate(
                {"endpoint_url": server.endpoint_url} | parameters
            ),
        ),
    ).save(name, overwrite=True)


def detect_in(root: Location, model: str = MODEL, **parameters: object) -> State[Any]:
    """Run the flow that counts in this process, for a root."""
    given: dict[str, Any] = {"source": root.below(INPUTS), "output": root, "model": model}
    return cast("State[Any]", detect_here(**given | parameters, return_state=True))


@pytest.fixture
def detect_with(prefect_server: EmbeddedPrefect) -> Detect:
    """Run the flow with the block of a name; nothing of S3 is in the environment."""

    def run(block: str, prefix: str | None = None, **values: object) -> State[Any]:
        return detect_in(Location(block=block, prefix=prefix or ""), settings=settings(**values))

    return run


def artifacts_of(state: State[Any]) -> dict[str, Artifact]:
    """Artifacts of a flow run by key, as the API gives them."""
    run = cast("UUID", state.state_details.flow_run_id)
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_run)
    return {str(artifact.key): artifact for artifact in found}


def counts_of(server: EmbeddedS3, root: str) -> dict[str, dict[str, str]]:
    return rows(bucket_tables(server, root)[COUNTS])


def check_what_is_shown(artifacts: dict[str, Artifact], address: str) -> None:
    """A batch of two pictures, and the result with both of them and links below an address."""
    assert artifacts["batch-progress"].data == 100.0
    assert str(artifacts["batch-progress"].description).startswith("batch 1 of 1: 2 pictures; 2 of")
    assert artifacts["batch-progress"].task_run_id
    shown = str(artifacts["detection-summary"].data)
    assert shown.count("(data:image/jpeg;base64,") == 2
    assert shown.index("Least certain") < shown.index("Most certain")
    assert f"([open]({address}/pollen_counting_results/" in shown
    assert len(shown) < 90_000


def test_the_final_states_and_what_they_say(detect_with: Detect, s3_server: EmbeddedS3) -> None:
    root = "flow/states"
    save_block("states", s3_server, "flow")
    state = detect_with("states", "states")
    assert (state.name, state.is_completed()) == ("NoImages", True)
    assert "upload some, or check the path" in str(state.message)
    assert str(state.message).startswith("0 images, 0 grains, viability unknown; ")
    assert list(artifacts_of(state)) == ["detection-summary"]
    assert not objects(s3_server, root)

    upload(s3_server, f"{root}/detect_images", {"a.png": picture(0), "b/a.PNG": picture(1)})
    state = detect_with("states", "states")
    assert state.name == "Completed"
    found = counts_of(s3_server, root)
    assert list(found) == ["a.png", "b/a.PNG"]
    grains = sum(int(row["total_counted"]) for row in found.values())
    viable = sum(int(row["viable"]) for row in found.values())
    assert state.message == f"2 images, {grains} grains, {viable / grains:.1%} viable"
    artifacts = artifacts_of(state)
    assert artifacts["detection-summary"].type == "markdown"
    assert f"**{grains}** grains counted" in str(artifacts["detection-summary"].data)
    assert artifacts["detection-progress"].data == 100.0
    check_what_is_shown(artifacts, f"{s3_server.endpoint_url}/pollen/{root}")
    assert "failed-images" not in artifacts

    before = objects(s3_server, root)
    with tiles_counted() as tiles:
        state = detect_with("states", "states")
    assert state.name == "NothingNew"
    assert state.message == f"2 images, {grains} grains, {viable / grains:.1%} viable"
    assert "data:image" not in str(artifacts_of(state)["detection-summary"].data)
    assert tiles() == 0
    assert objects(s3_server, root) == before

    upload(s3_server, f"{root}/detect_images", {"bad.png": b"", "b/a.PNG": picture(2)})
    with tiles_counted() as tiles:
        state = detect_with("states", "states")
    assert state.name == "CompletedWithFailures"
    assert str(state.message).endswith("; 1 failed, 1 of them new")
    assert str(state.message).startswith("3 images, ")
    assert tiles() == 1
    failed = artifacts_of(state)["failed-images"]
    assert failed.type == "table"
    assert "upload it again" in str(failed.data)


def test_a_failed_run_says_what_to_do(detect_with: Detect, s3_server: EmbeddedS3) -> None:
    save_block("altered", s3_server, "flow/altered")
    upload(s3_server, "flow/altered/trained_models/v1", {"model.json": b"{"})
    state = detect_in(Location(block="altered"), "v1")
    assert state.name == "Failed"
    assert "the card of model 'v1'" in str(state.message)
    state = detect_with("never-saved")
    assert state.name == "Failed"
    assert "there is no S3Bucket block named 'never-saved'" in str(state.message)


def test_the_block_alone_says_where_a_run_goes(detect_with: Detect, s3_server: EmbeddedS3) -> None:
    with EmbeddedS3([BUCKET]) as other:
        for number, server in enumerate((s3_server, other)):
            upload(server, "flow/moved/detect_images", {f"{number}.png": picture(number)})
            save_block("moving", server, "flow/moved")
            assert detect_with("moving").name == "Completed"
        assert list(counts_of(s3_server, "flow/moved")) == ["0.png"]
        assert list(counts_of(other, "flow/moved")) == ["1.png"]


def test_tls_checks_are_never_switched_off(detect_with: Detect, s3_server: EmbeddedS3) -> None:
    save_block("careless", s3_server, "flow/careless", verify=False)
    state = detect_with("careless")
    assert state.name == "Failed"
    assert "switch TLS checks off (verify: false)" in str(state.message)
    assert "verify_cert_path" in str(state.message)
