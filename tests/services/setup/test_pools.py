"""Work pools on a real Prefect server, from the job templates that are shipped."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.workers.process import ProcessWorker

from pollen.errors import PollenError
from services.setup.plan import Step
from services.setup.pools import plan_pools, pool_template
from services.site import Site, SitePool

SHIPPED = Path(__file__).parents[3] / "deployments" / "work-pools"


def site(name: str, **pool: Any) -> Site:  # noqa: ANN401  (settings of the pool)
    # Said, so that a kubeconfig of whoever runs the tests has no say.
    return Site.model_validate({"pools": {name: pool}, "kubernetes": {"namespace": "lab"}})


def carry_out(step: Step) -> None:
    assert step.do is not None
    step.do()


def only(client: SyncPrefectClient, there: Site) -> Step:
    (step,) = plan_pools(client, there)
    return step


@pytest.mark.parametrize("template", ["gpu", "cpu"])
def test_a_kubernetes_pool_has_the_shipped_template_with_the_sites_defaults(
    client: SyncPrefectClient, name: str, template: str
) -> None:
    selector = {"gpu-model": "a100"}
    there = site(name, template=template, variables={"node_selector": selector})
    step = only(client, there)
    assert step.change.action == "create"
    carry_out(step)
    pool = client.read_work_pool(name)
    expected = json.loads((SHIPPED / f"{template}.json").read_text("utf-8"))
    expected["variables"]["properties"]["node_selector"]["default"] = selector
    expected["variables"]["properties"]["namespace"]["default"] = "lab"
    assert pool.type == "kubernetes"
    assert pool.base_job_template == expected
    assert only(client, there).change.action == "keep"


def test_a_process_pool_has_the_template_a_worker_would_give_it(
    client: SyncPrefectClient, name: str
) -> None:
    carry_out(only(client, site(name, type="process", concurrency_limit=2)))
    pool = client.read_work_pool(name)
    assert pool.type == "process"
    assert pool.base_job_template == ProcessWorker.get_default_base_job_template()
    assert pool.concurrency_limit == 2
    # Not said is not asked for: what the pool has by now is kept.
    assert only(client, site(name, type="process")).change.action == "keep"


def test_what_differs_is_named_and_put_right_and_nothing_else_is_touched(
    client: SyncPrefectClient, name: str
) -> None:
    carry_out(only(client, site(name, type="process", concurrency_limit=2)))
    client.update_work_pool(name, WorkPoolUpdate(is_paused=True, description="ours"))
    changed = site(name, type="process", concurrency_limit=3, variables={"stream_output": False})
    step = only(client, changed)
    assert step.change.action == "update"
    assert (
        step.change.detail == "variables of the job template: stream_output; runs at once: 2 to 3"
    )
    carry_out(step)
    pool = client.read_work_pool(name)
    assert pool.base_job_template["variables"]["properties"]["stream_output"]["default"] is False
    assert (pool.concurrency_limit, pool.is_paused, pool.description) == (3, True, "ours")
    after = only(client, changed)
    assert (after.change.action, after.change.detail) == ("keep", "paused")
    assert after.change.attention


def test_a_manifest_changed_by_hand_is_put_right(client: SyncPrefectClient, name: str) -> None:
    there = site(name, template="cpu")
    carry_out(only(client, there))
    template = client.read_work_pool(name).base_job_template
    template["job_configuration"]["job_manifest"]["spec"]["backoffLimit"] = 6
    client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    step = only(client, there)
    assert step.change.detail == "manifest of the job template"
    carry_out(step)
    assert only(client, there).change.action == "keep"


def test_a_pool_of_another_type_is_left_alone_and_it_says_so(
    client: SyncPrefectClient, name: str
) -> None:
    client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    step = only(client, site(name, template="gpu"))
    assert (step.change.action, step.do) == ("keep", None)
    assert step.change.attention
    assert (
        "has the type process, which setup can't change; the site file says kubernetes"
        in step.change.detail
    )


def test_a_namespace_that_is_not_known_here_stays_as_it_was_set_up(
    client: SyncPrefectClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    unsaid = Site.model_validate({"pools": {name: {"template": "cpu"}}})
    carry_out(only(client, site(name, template="cpu")))
    assert only(client, unsaid).change.action == "keep"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"node_selectr": {}}, "no such variable; did you mean node_selector?"),
        ({"node_selector": "a100"}, "variables.node_selector can't be used: expected object"),
        ({"gpu_resource": ["nvidia.com/gpu"]}, "expected a name as `kubectl describe node` shows"),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "s3cr3t"}}, "looks like a secret"),
        ({"env": {"lab_password": "s3cr3t"}}, "looks like a secret"),
    ],
)
def test_variables_that_no_run_could_use_are_refused_and_not_repeated(
    variables: dict[str, Any], expected: str
) -> None:
    with pytest.raises(PollenError) as caught:
        pool_template("gpu", SitePool(variables=variables))
    assert expected in str(caught.value)
    assert "site file: pools.gpu.variables." in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_paths_to_files_with_secrets_are_no_secrets() -> None:
    env = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "LAB": "x"}
    template = pool_template("gpu", SitePool(variables={"env": env}))
    assert template["variables"]["properties"]["env"]["default"] == env


def test_a_pool_without_a_template_is_told_which_there_are() -> None:
    with pytest.raises(PollenError, match=r"pools\.other\.template \(there are: cpu, gpu\)"):
        pool_template("other", SitePool())


@pytest.mark.parametrize("text", ["not json", "{}", "[]", '{"variables": {}}'])
def test_a_broken_template_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "gpu.json").write_text(text)
    with pytest.raises(PollenError, match=r"gpu\.json can't be used: expected JSON"):
        pool_template("gpu", SitePool(), tmp_path)


def test_the_shipped_template_is_not_changed_by_reading_it() -> None:
    first = pool_template("gpu", SitePool(variables={"node_selector": {"a": "b"}}))
    assert pool_template("gpu", SitePool()) != first
    process = SitePool(type="process", variables={"stream_output": False})
    assert pool_template("p", process) != pool_template("p", SitePool(type="process"))
