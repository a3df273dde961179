"""The manifests of server, database and workers: valid, restricted, and with no more rights than needed.

Most tests read the golden file, so they say the same on a machine without kubectl. It is made of the
base and an overlay of the tests' own: what an engineer says in the repository's overlay (image, disk,
patches) is valid and safe too, but is otherwise theirs.
"""

import json
import os
import re
import textwrap
from functools import cache
from typing import Any

import pytest
import yaml
from prefect.settings import Settings
from typer.testing import CliRunner

from services.command_line import app
from services.commands.events import FINISH_S, FLUSH_S, READER_S
from services.site import deployments_folder
from tests.deployments.checking import (
    GOLDEN,
    VERSIONS,
    as_yaml,
    assert_golden,
    assert_safe,
    assert_valid,
)
from tests.deployments.kustomizing import EXAMPLE, KUBERNETES, ROOT, built

OVERLAY = "overlays/stenc-ns"
NAMESPACE = "stenc-ns"
PODS = ("prefect-server", "prefect-database", "worker-gpu", "worker-cpu", "events")


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    text = (GOLDEN / "manifests.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load_all(text))


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in manifests() if each["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """Return pod templates by the name of the resource that makes the pods."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in manifests()
        if "template" in each.get("spec", {})
    }


def container(name: str) -> dict[str, Any]:
    (only,) = pods()[name]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def environment(name: str) -> dict[str, Any]:
    return {
        each["name"]: each.get("value", each.get("valueFrom")) for each in container(name)["env"]
    }


def test_are_as_the_golden_file() -> None:
    assert_golden(GOLDEN / "manifests.yaml", as_yaml(*built(EXAMPLE)))


@pytest.mark.parametrize("all_patches", [False, True])
def test_the_overlay_is_valid_and_safe_whatever_its_site_says(*, all_patches: bool) -> None:
    made = built(OVERLAY, all_patches=all_patches)
    assert len({each["metadata"]["namespace"] for each in made}) == 1
    assert {"worker-gpu", "worker-cpu"} <= {each["metadata"]["name"] for each in made}
    for manifest in made:
        assert_valid(manifest, VERSIONS[-1])
        if "template" in manifest.get("spec", {}):
            assert_safe(manifest["spec"]["template"]["spec"])


def test_patches_to_choose_from_fit() -> None:
    made = built(OVERLAY, all_patches=True)
    accounts = [each for each in made if each["kind"] == "ServiceAccount"]
    assert {each["metadata"]["name"] for each in accounts if "imagePullSecrets" in each} == {
        "pollen-server",
        "pollen-worker",
    }
    ours = of_kind("NetworkPolicy")
    for name, part in (("pollen-s3", "egress"), ("pollen-events", "ingress")):
        (patched,) = [
            each
            for each in made
            if each["metadata"]["name"] == name and each["kind"] == "NetworkPolicy"
        ]
        assert patched["spec"][part] != ours[name]["spec"][part]


def test_with_a_server_that_is_there_already_nothing_asks_for_ours() -> None:
    """The patches that the page for clusters gives."""
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    text = page.partition("**A Prefect server that is there already**")[2]
    patches = textwrap.dedent(text.partition("```yaml\n")[2].partition("```")[0])
    made = built(EXAMPLE, more=patches)
    assert {each["metadata"]["name"] for each in made if each["kind"] == "Deployment"} == {
        "events",
        "worker-cpu",
        "worker-gpu",
    }
    assert not [each for each in made if each["kind"] == "StatefulSet"]
    assert "http://prefect-server" not in as_yaml(*made)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version: str) -> None:
    for manifest in manifests():
        assert_valid(manifest, version)


def test_the_whole_is_there_and_in_one_namespace() -> None:
    assert pods().keys() == set(PODS)
    assert {each["metadata"]["namespace"] for each in manifests()} == {NAMESPACE}
    assert {each["kind"] for each in manifests()} == {
        *("ServiceAccount", "Role", "RoleBinding", "Service"),
        *("Deployment", "StatefulSet", "NetworkPolicy"),
    }


@pytest.mark.parametrize("name", PODS)
def test_fits_a_restricted_namespace(name: str) -> None:
    assert_safe(pods()[name]["spec"])
    assert {"readinessProbe", "livenessProbe"} <= container(name).keys()
    assert pods()[name]["spec"]["automountServiceAccountToken"] is name.startswith("worker")


def test_workers_have_the_least_rights() -> None:
    assert of_kind("Role").keys() == {"pollen-worker"}
    rules = {
        resource: set(rule["verbs"])
        for rule in of_kind("Role")["pollen-worker"]["rules"]
        for resource in rule["resources"]
    }
    assert rules == {
        "jobs": {"get", "list", "watch", "create", "delete"},
        "pods": {"get", "list", "watch"},
        "pods/log": {"get"},
    }
    assert of_kind("RoleBinding")["pollen-worker"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "pollen-worker", "namespace": NAMESPACE}
    ]
    assert of_kind("ServiceAccount").keys() == {"pollen-job", "pollen-server", "pollen-worker"}
    for account in of_kind("ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


def test_there_is_no_cluster_role_anywhere() -> None:
    for path in (KUBERNETES).rglob("*.yaml"):
        kinds = re.findall(r"^kind: (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not [kind for kind in kinds if kind.startswith("Cluster")], path


@pytest.mark.parametrize("pool", ["gpu", "cpu"])
def test_worker_sees_its_namespace_and_keeps_the_password_out_of_jobs(pool: str) -> None:
    name = f"worker-{pool}"
    assert f"--pool={pool}" in container(name)["args"]
    assert "--no-create-pool-if-not-found" in container(name)["args"]
    assert environment(name)["PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"] == {
        "fieldRef": {"fieldPath": "metadata.namespace"}
    }
    reference = environment(name)["PREFECT_API_AUTH_STRING"]["secretKeyRef"]
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET"
    assert environment(name)[f"{prefix}_NAME"] == reference["name"]
    assert environment(name)[f"{prefix}_KEY"] == reference["key"]
    assert environment(name)["PREFECT_API_URL"].startswith("http://prefect-server:4200/")


def test_server_asks_for_the_password_and_answers_probes_without() -> None:
    given = environment("prefect-server")
    for name, key in (
        ("PREFECT_SERVER_API_AUTH_STRING", "auth-string"),
        ("PREFECT_SERVER_ENCRYPTION_KEY", "encryption-key"),
        ("PREFECT_SERVER_DATABASE_PASSWORD", "database-password"),
    ):
        assert given[name] == {"secretKeyRef": {"name": "pollen-prefect", "key": key}}
    assert given["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    probes = container("prefect-server")
    assert probes["livenessProbe"]["httpGet"]["path"] == "/api/health"
    assert probes["readinessProbe"]["httpGet"]["path"] == "/api/ready"
    assert of_kind("Deployment")["prefect-server"]["spec"]["strategy"]["type"] == "Recreate"


def test_prefect_knows_every_setting_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            monkeypatch.delenv(name)
    given = {
        name: value if isinstance(value, str) else "from-a-secret"
        for name, value in environment("prefect-server").items()
        if name.startswith("PREFECT_") and name != "PREFECT_SERVER_ENCRYPTION_KEY"  # read elsewhere
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    understood = Settings().to_environment_variables(exclude_unset=True)
    assert understood.keys() >= given.keys()  # a misspelt one would be ignored silently


def test_the_receiver_is_alone_and_has_time_to_tell_what_waits() -> None:
    spec = of_kind("Deployment")["events"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"]["type"] == "Recreate"
    needed = FLUSH_S + FINISH_S + READER_S
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > needed
    program = container("events")
    assert program["livenessProbe"]["httpGet"]["path"] == "/health"
    assert program["readinessProbe"]["httpGet"]["path"] == "/ready"
    # Notices that come while the Prefect server is away are kept, if they come at all.
    assert of_kind("Service")["events"]["spec"]["publishNotReadyAddresses"] is True
    assert environment("events")["POLLEN_EVENTS_TOKEN"]["secretKeyRef"]["name"] == "pollen-events"
    assert environment("events")["PREFECT_API_URL"].startswith("http://prefect-server:4200/")
    mounts = {each["name"]: each["mountPath"] for each in program["volumeMounts"]}
    options = [each for each in program["args"] if each.startswith("--config=")]
    assert options == [f"--config={mounts['site']}/site.yaml"]


def test_the_receiver_knows_its_options() -> None:
    """A misspelt option would show only on the cluster."""
    _, *arguments = container("events")["args"]
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0


def test_the_database_keeps_its_data() -> None:
    (claim,) = of_kind("StatefulSet")["prefect-database"]["spec"]["volumeClaimTemplates"]
    mounts = {
        each["name"]: each["mountPath"] for each in container("prefect-database")["volumeMounts"]
    }
    folder = mounts[claim["metadata"]["name"]]
    assert environment("prefect-database")["PGDATA"].startswith(f"{folder}/")


def test_no_manifest_holds_a_secret() -> None:
    assert not of_kind("Secret")
    for path in (KUBERNETES / "secrets").glob("*.yaml"):
        assert path.name.endswith(".example.yaml")
        example = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(example["stringData"].values()) == {""}, path
        assert "data" not in example


def test_examples_show_every_secret_and_key_that_is_asked_for() -> None:
    shown = {}
    for path in (KUBERNETES / "secrets").glob("*.yaml"):
        example = yaml.safe_load(path.read_text(encoding="utf-8"))
        shown[example["metadata"]["name"]] = set(example["stringData"])
    asked: dict[str, set[str]] = {}
    for reference in re.findall(r'"secretKeyRef": (\{.*?\})', json.dumps(manifests())):
        entry = json.loads(reference)
        asked.setdefault(entry["name"], set()).add(entry["key"])
    assert asked == {name: shown[name] for name in ("pollen-prefect", "pollen-events")}
    # The other one goes to runs, whole.
    template = (deployments_folder() / "work-pools" / "gpu.json").read_text(encoding="utf-8")
    assert '"name": "pollen-s3"' in template
    assert shown["pollen-s3"] == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


# Network: who reaches whom. The policies are few enough to be carried out here.

ROLES = ("server", "database", "worker", "job", "receiver")


def chosen(selector: dict[str, Any], role: str) -> bool:
    """Return whether a selector selects pods of a role."""
    if any(value != role for value in selector.get("matchLabels", {}).values()):
        return False
    return all(
        each["operator"] == "Exists" or role in each["values"]
        for each in selector.get("matchExpressions", [])
    )


def lets_through(rule: dict[str, Any], way: str, other: str, port: int) -> bool:
    """Return whether a rule allows traffic with `other` (a role, or any address) on a port."""
    peers = rule.get(way)
    ports = rule.get("ports")
    return (peers is None or any(chosen(each["podSelector"], other) for each in peers)) and (
        ports is None or any(each.get("port", port) == port for each in ports)
    )


def allowed(role: str, way: str, other: str, port: int) -> bool:
    """Return whether pods of a role may send to (`to`) or be reached from (`from`) another."""
    direction, section = {"to": ("Egress", "egress"), "from": ("Ingress", "ingress")}[way]
    governing = [
        policy["spec"]
        for policy in of_kind("NetworkPolicy").values()
        if chosen(policy["spec"]["podSelector"], role)
        and direction in policy["spec"]["policyTypes"]
    ]
    assert governing, f"nothing governs {section} of {role}: all is allowed"
    return any(
        lets_through(rule, way, other, port) for spec in governing for rule in spec.get(section, [])
    )


def reaches(sender: str, receiver: str, port: int) -> bool:
    return allowed(sender, "to", receiver, port) and allowed(receiver, "from", sender, port)


def test_every_pod_has_a_role_that_policies_know() -> None:
    labels = {name: pod["metadata"]["labels"]["pollen/role"] for name, pod in pods().items()}
    assert labels == {
        "prefect-server": "server",
        "prefect-database": "database",
        "worker-gpu": "worker",
        "worker-cpu": "worker",
        "events": "receiver",
    }
    template = json.loads((deployments_folder() / "work-pools" / "gpu.json").read_text())
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]
    assert pod["metadata"]["labels"] == {"pollen/role": "job"}


@pytest.mark.parametrize(
    ("sender", "receiver", "port"),
    [
        ("server", "database", 5432),
        ("worker", "server", 4200),
        ("job", "server", 4200),
        ("receiver", "server", 4200),
        ("elsewhere", "receiver", 8080),
    ],
)
def test_what_the_work_needs_gets_through(sender: str, receiver: str, port: int) -> None:
    assert sender == "elsewhere" or allowed(sender, "to", receiver, port)
    assert allowed(receiver, "from", sender, port)


def test_nothing_else_gets_through() -> None:
    needed = {
        ("server", "database", 5432),
        ("worker", "server", 4200),
        ("job", "server", 4200),
        ("receiver", "server", 4200),
        # The receiver is open to anybody, and runs may reach any storage; without the token that is all.
        ("job", "receiver", 8080),
    }
    ports = (22, 4200, 5432, 8080)
    open_ways = {
        (sender, receiver, port)
        for sender in ROLES
        for receiver in ROLES
        for port in ports
        if reaches(sender, receiver, port)
    }
    assert open_ways == needed


@pytest.mark.parametrize("role", ROLES)
def test_who_reaches_what_is_outside(role: str) -> None:
    assert allowed(role, "to", "elsewhere", 53)  # names
    to_443 = {"worker", "job", "receiver"}  # Kubernetes; S3; SQS and SNS
    assert allowed(role, "to", "elsewhere", 443) is (role in to_443)
    assert allowed(role, "to", "elsewhere", 8333) is (role == "job")
    assert not allowed(role, "from", "elsewhere", 4200)
    assert allowed(role, "from", "elsewhere", 8080) is (role == "receiver")


def test_services_lead_to_their_pods() -> None:
    for name, service in of_kind("Service").items():
        assert service["spec"]["selector"].items() <= pods()[name]["metadata"]["labels"].items()
        (port,) = service["spec"]["ports"]
        (declared,) = container(name)["ports"]
        assert port["targetPort"] == declared["name"]
        assert port["port"] == declared["containerPort"]
