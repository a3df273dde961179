"""Deployments on a real Prefect server: ours that left ``prefect.yaml`` go, nobody else's do."""

from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from pollen.errors import PollenError
from services.setup.deployments import (
    DeclaredDeployment,
    declared_deployments,
    deploy_command,
    plan_deployments,
)
from services.site import Site

CHECKOUT = Path(__file__).parents[3]


def application(folder: Path, text: str) -> Path:
    (folder / "flows").mkdir()
    (folder / "flows" / "counting.py").write_text(
        "import no_such_module\n\n"
        "@flow(name='count', persist_result=False)\ndef count_all(): ...\n\n"
        "@flow\ndef count_some(): ...\n"
    )
    path = folder / "prefect.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("pools", "given"),
    [
        ({"gpu": {}, "cpu": {}}, "POLLEN_IMAGE=<image with its tag> "),
        (
            {"gpu": {"variables": {"gpu_count": 0}}, "cpu": {}},
            "POLLEN_IMAGE=<image with its tag> POLLEN_DEVICE=cpu ",
        ),
        ({"gpu": {"type": "process"}, "cpu": {"type": "process"}}, ""),
    ],
)
def test_the_command_names_what_would_be_taken_away(
    pools: dict[str, dict[str, object]], given: str
) -> None:
    site = Site.model_validate({"pools": pools})
    assert deploy_command(site) == f"{given}prefect --no-prompt deploy --all"


def test_no_message_tells_of_a_bare_deploy() -> None:
    """It would take the image and the device from all deployments: messages say what tasks.cluster.deploy_hint says."""
    files = [
        each for top in ("services", "flows", "tasks") for each in (CHECKOUT / top).rglob("*.py")
    ]
    bare = [each.name for each in files if "deploy --all" in each.read_text("utf-8")]
    assert bare == ["deployments.py"]  # `deploy_command`, with what has to be given


def test_the_shipped_ones_are_those_that_everything_here_relies_on() -> None:
    assert {(each.name, each.pool) for each in declared_deployments(CHECKOUT / "prefect.yaml")} == {
        ("detect/on-demand", "cpu"),
        ("detect/nightly", "cpu"),
        ("detect/on-upload", "cpu"),
        ("detect/sweep", "cpu"),
        ("detect-shard/gpu", "gpu"),
        ("train/on-demand", "gpu"),
        ("promote/on-demand", "cpu"),
        ("dataset-check/on-upload", "cpu"),
    }


def test_names_are_read_from_the_source_without_importing_it(tmp_path: Path) -> None:
    path = application(
        tmp_path,
        "deployments:\n"
        "- {name: a, entrypoint: 'flows/counting.py:count_all', work_pool: {name: cpu}}\n"
        "- {name: b, entrypoint: 'flows/counting.py:count_some'}\n",
    )
    assert declared_deployments(path) == (
        DeclaredDeployment("count/a", "cpu"),
        DeclaredDeployment("count-some/b", None),
    )


@pytest.mark.parametrize(
    "text",
    [
        "deployments: []",
        "deployments:",
        "",
        "[]",
        "deployments: [{name: a}]",
        "deployments: [{name: a, entrypoint: 'flows/counting.py:none'}]",
        "deployments: [{name: a, entrypoint: 'flows/none.py:count_all'}]",
        "deployments: [",
    ],
)
def test_a_file_that_can_not_be_used_never_counts_as_one_without_deployments(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(PollenError, match=r"can't be used|declares no|does not exist"):
        declared_deployments(application(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PollenError, match=r"prefect\.yaml does not exist"):
        declared_deployments(tmp_path / "prefect.yaml")


def test_ours_that_left_the_file_goes_and_the_others_stay(
    client: SyncPrefectClient, name: str
) -> None:
    flow = client.create_flow_from_name(name)
    for deployment, tags in {
        "stays": ["pollen", "cpu"],
        "left": ["pollen"],
        "theirs": ["pollen-lab", "cpu"],
        "untagged": [],
    }.items():
        client.create_deployment(flow_id=flow, name=deployment, tags=tags)
    declared = (
        DeclaredDeployment(f"{name}/stays", "cpu"),
        DeclaredDeployment(f"{name}/new", "cpu"),
    )

    # Other tests leave deployments on this server: only this test's are looked at and deleted.
    steps, missing = plan_deployments(client, declared)
    mine = {step.change.name: step for step in steps if step.change.name.startswith(name)}
    assert {each: step.change.action for each, step in mine.items()} == {
        f"{name}/stays": "keep",
        f"{name}/left": "delete",
    }
    assert missing == [f"{name}/new"]
    do = mine[f"{name}/left"].do
    assert do is not None
    do()
    left = {each.name for each in client.read_deployments() if each.flow_id == flow}
    assert left == {"stays", "theirs", "untagged"}
    steps, _ = plan_deployments(client, declared)
    assert f"{name}/left" not in {step.change.name for step in steps}
