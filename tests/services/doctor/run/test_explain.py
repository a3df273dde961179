"""Why a run is where it is: real runs on a real server, in the states that a cluster leaves them in.

No cluster can run here. What its worker and its observer say is taken from their own code: pods'
statuses go through `diagnose_k8s_pod`, and the texts that are looked for must stand in their sources.
"""

import asyncio
import importlib.util
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import prefect_kubernetes.worker  # type: ignore[import-untyped]
import pytest
import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    InfrastructurePending,
    Late,
    Pending,
    Running,
    Scheduled,
    Submitting,
)
from prefect_kubernetes.diagnostics import (  # type: ignore[import-untyped]
    DiagnosisCategory,
    diagnose_k8s_pod,
)

from services.doctor.finding import Finding, Level, exit_code
from services.doctor.pod_status import PodProblem
from services.doctor.run.explain import LIMIT_REACHED, explain
from services.doctor.run.explain import NO_GPU as NO_GPU_TEXT
from services.doctor.run.facts import RunFacts
from services.doctor.run.from_server import gather
from services.doctor.run.pod_failures import EXPLAINED, NOT_SUBMITTED
from services.embedded import EmbeddedPrefect
from tests.services.doctor.runs import Story, make, told, with_client
from tests.support.runs import REPOSITORY


def tell(story: Story) -> tuple[RunFacts, list[Finding]]:
    return asyncio.run(with_client(lambda client: told(client, story)))


def first(story: Story) -> Finding:
    return tell(story)[1][0]


def supposed(*states: State, **facts: Any) -> Finding:  # noqa: ANN401  (passes through)
    """What is said of a run with these states, without a server."""
    run = FlowRun(
        id=uuid4(),
        flow_id=uuid4(),
        name="x",
        state=states[-1],
        parameters={"bucket": "lab", "prefix": "2026"},
    )
    return explain(RunFacts(run=run, at=datetime.now(UTC), states=states, **facts))[0]


def waiting(reason: str, message: str = "") -> dict[str, object]:
    """A pod's status whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "prefect-job", "state": state}]}


def unschedulable(message: str) -> dict[str, object]:
    """A pod's status that no node takes."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"phase": "Pending", "conditions": [condition | {"message": message}]}


def terminated(reason: str, code: int = 137) -> dict[str, object]:
    """A pod's status whose container was ended."""
    state = {"terminated": {"reason": reason, "exitCode": code}}
    return {"phase": "Failed", "containerStatuses": [{"name": "prefect-job", "state": state}]}


def observed(status: dict[str, object]) -> tuple[list[tuple[int, str]], list[dict[str, str]]]:
    """What the worker's observer logs of a pod, and the labels of its event."""
    diagnosis = diagnose_k8s_pod(status)
    assert diagnosis is not None
    text = f"{diagnosis.summary}: {diagnosis.detail} Resolution: {diagnosis.resolution}"
    return [(logging.ERROR, text)], [{"kubernetes.diagnosis": diagnosis.category.value}]


PULL = waiting("ImagePullBackOff", 'Back-off pulling image "registry.example/pollen:abc"')
NO_GPU = "0/4 nodes are available: 1 node(s) had untolerated taint {control-plane: }, 3 Insufficient nvidia.com/gpu."
NO_NODE = "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector."
TAINTED = "0/2 nodes are available: 2 node(s) had untolerated taint {nvidia.com/gpu: }."
PENDING: tuple[State, ...] = (
    Pending(),
    Submitting(),
    InfrastructurePending(message="Kubernetes pod is pending."),
)
GONE: State = Crashed(message="No active or succeeded pods found for any job")


PODS: tuple[tuple[dict[str, object], tuple[State, ...], str, str], ...] = (
    (PULL, PENDING, "ImagePullBackOff", "pull secret"),
    (unschedulable(NO_GPU), PENDING, "no node has enough free GPUs", "memory_request"),
    (unschedulable(NO_NODE), PENDING, "the labels of the pool's node selector", "node_selector"),
    (unschedulable(TAINTED), PENDING, "keep this pod away", "tolerations"),
    (terminated("OOMKilled"), (Running(), GONE), "more memory than its limit (12Gi)", "raise"),
    (
        {"phase": "Failed", "reason": "Evicted", "message": "low on ephemeral-storage."},
        (Running(), GONE),
        "evicted the run's pod (evicted)",
        "ephemeral_storage_request",
    ),
    (waiting("CrashLoopBackOff"), PENDING, "ends right after every start", "log"),
)


def test_pods_that_do_not_start_or_are_killed(prefect_server: EmbeddedPrefect) -> None:
    """As the observer logs it, and as it says it in events, which the server stores a moment later."""

    async def look(client: PrefectClient) -> list[tuple[Finding, Finding]]:
        made = []
        for status, states, *_ in PODS:
            logs, pods = observed(status)
            logged = await make(client, Story(states, logs=logs))
            made.append((logged, await make(client, Story(states, pods=pods))))
        last = await client.read_flow_run(made[-1][1])
        async with asyncio.timeout(60):
            while not (await gather(client, last)).problems:
                await asyncio.sleep(0.5)
        return [
            (await explained_run(client, logged), await explained_run(client, told))
            for logged, told in made
        ]

    found = asyncio.run(with_client(look))
    for (status, _, expected, remedy), (logged, by_pod) in zip(PODS, found, strict=True):
        assert expected in logged.summary
        assert remedy in logged.resolution
        assert logged.level is Level.ERROR
        # An event has only the observer's word, which is that of the taint.
        named = "keep this pod away" if "nvidia.com/gpu." in str(status) else expected
        assert named in by_pod.summary


async def explained_run(client: PrefectClient, run: UUID) -> Finding:
    return explain(await gather(client, await client.read_flow_run(run)))[0]


def test_the_names_that_automations_give_to_states_are_understood(
    prefect_server: EmbeddedPrefect,
) -> None:
    shipped = yaml.safe_load((REPOSITORY / "deployments/automations/diagnoses.yaml").read_text())
    for each in shipped["for_each"]:
        found = first(Story((*PENDING, Pending(name=each["state"], message=each["why"]))))
        assert found.level is Level.ERROR
        assert found.summary != "it is starting"
        assert each["why"] in found.detail


def hinted(reason: str, message: str) -> str:
    """What the state of a run says for which Kubernetes refused the Job, as the worker writes it."""
    status = {"Forbidden": 403, "Not Found": 404, "Unprocessable Entity": 422}[reason]
    refusal = prefect_kubernetes.worker.kubernetes_asyncio.client.exceptions.ApiException(
        status=status, reason=reason
    )
    refusal.body = message
    text = f"Unable to create Kubernetes job: {reason}" + (f": {message}" if message else "")
    hint = prefect_kubernetes.worker.KubernetesWorker._get_k8s_error_hint(refusal, "stenc-ns")
    text += f". Hint: {hint}" if hint else ""
    return f"{NOT_SUBMITTED} InfrastructureError: {text}"


@pytest.mark.parametrize(
    ("reason", "message", "expected", "remedy"),
    [
        (
            "Forbidden",
            'jobs.batch is forbidden: User "system:serviceaccount:stenc-ns:default" cannot create resource "jobs" in '
            'API group "batch" in the namespace "stenc-ns"',
            "may not create Jobs (Forbidden)",
            "Role",
        ),
        (
            "Forbidden",
            'jobs.batch "x" is forbidden: exceeded quota: default, requested: requests.nvidia.com/gpu=1, used: '
            "requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=2",
            "quota is used up",
            "wait until other pods",
        ),
        (
            "Forbidden",
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
            "Pod Security refuses",
            "pollen setup",
        ),
        (
            "Forbidden",
            'pods "x" is forbidden: failed quota: lab: must specify limits.cpu for: prefect-job',
            "counts a resource that the pod does not specify",
            "pool's variables",
        ),
        (
            "Forbidden",
            'pods "x" is forbidden: maximum memory usage per Container is 8Gi, but limit is 12Gi',
            "LimitRange",
            "kubectl get limitrange",
        ),
        (
            "Forbidden",
            'pods "x" is forbidden: cpu max limit to request ratio per Container is 1, but provided ratio is 4.0',
            "LimitRange",
            "kubectl get limitrange",
        ),
        (
            "Forbidden",
            'pods "x-" is forbidden: error looking up service account stenc-ns/pollen-job: serviceaccount '
            '"pollen-job" not found',
            "service account of the run's pod does not exist",
            "kubectl apply -k",
        ),
        (
            "Forbidden",
            'jobs.batch "x" is forbidden: unable to create new content in namespace stenc-ns because it is being '
            "terminated",
            "the namespace is being deleted",
            "administrators",
        ),
        ("Forbidden", "", "may not create Jobs (Forbidden)", "Role"),
        (
            "Forbidden",
            'admission webhook "policy.example.org" denied the request',
            "Kubernetes forbids the Job or its pod",
            "admission policy",
        ),
        ("Not Found", 'namespaces "stenc-ns" not found', "the namespace for the Job", "site.yaml"),
        (
            "Unprocessable Entity",
            'Job.batch "x" is invalid: spec.template.spec.containers[0].image: Required value',
            "rejects the Job as invalid",
            "job variables",
        ),
    ],
)
def test_refused_jobs(reason: str, message: str, expected: str, remedy: str) -> None:
    found = supposed(Pending(), Submitting(), Crashed(message=hinted(reason, message)))
    assert found.summary.startswith("crashed before it ran: ")
    assert expected in found.summary
    assert remedy in found.resolution
    assert message in found.detail


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Process exited with status code: -9. Process exited due to a SIGKILL",
            "too little memory",
        ),
        ("Process exited with status code: 137. Process was killed", "too little memory"),
        ("Execution was aborted by a termination signal.", "was terminated (SIGTERM)"),
        ("Kubernetes job was deleted", "Job in Kubernetes was deleted"),
        ("No active or succeeded pods found for any job", "ended without an error message"),
        (
            "Request to http://prefect/api/ready failed: httpx.ConnectError.",
            "lost its connection to the Prefect",
        ),
        ("No sign of life for 15 minutes: the node or the worker", "no heartbeat"),
        ("something new", "the run crashed (Crashed)"),
    ],
)
def test_crashes(message: str, expected: str) -> None:
    found = supposed(Running(), Crashed(message=message))
    assert expected in found.summary
    assert message in found.detail
    assert found.level is Level.ERROR
    assert found.resolution


def test_a_run_past_its_deadline(prefect_server: EmbeddedPrefect) -> None:
    ended: State = Crashed(message="Execution was aborted by a termination signal.")
    facts, (before, *_) = tell(Story((Running(), ended)))
    assert "was terminated (SIGTERM)" in before.summary
    run = facts.run.model_copy(update={"total_run_time": timedelta(seconds=172_800)})
    found = explain(replace(facts, run=run))[0]
    assert "longer than its Job's deadline (172800 s)" in found.summary
    assert "active_deadline_seconds" in found.resolution


def test_what_was_before_does_not_explain_what_is_now(prefect_server: EmbeddedPrefect) -> None:
    """A run that was killed for too little memory and started again is not said to be killed."""
    again: State = AwaitingRetry(
        scheduled_time=datetime.now(UTC) + timedelta(seconds=5), message="Started again by itself"
    )
    logs, _ = observed(terminated("OOMKilled"))

    async def restarted() -> list[Finding]:
        async with get_client() as client:
            run = await make(client, Story((Running(), GONE), logs=logs))
            for state in (again, Running()):
                fresh = state.model_copy(update={"timestamp": datetime.now(UTC)})
                await client.set_flow_run_state(run, fresh, force=True)
            return explain(await gather(client, await client.read_flow_run(run)))

    now, before = asyncio.run(restarted())
    assert (now.level, now.summary) == (Level.OK, "it is running")
    assert "crashed once before and was started again" in before.summary
    assert "OOMKilled" in before.detail
    assert exit_code([now, before]) == 1


def test_a_run_that_is_about_to_be_started_again(prefect_server: EmbeddedPrefect) -> None:
    """The state Restarting says nothing of the cause: the states before do."""
    logs, _ = observed(terminated("OOMKilled"))
    restarting: State = Failed(name="Restarting", message="Crash 1; the state before says")
    _, (main, *notes) = tell(Story((Running(), GONE, restarting), logs=logs))
    assert main.level is Level.WARNING
    assert "will start again automatically: the run was killed because" in main.summary
    assert not any("before and was started again" in note.summary for note in notes)

    lost: State = Failed(name="LostBeforeStart", message="No start within 30 minutes. A worker")
    assert "did not start in time" in supposed(Pending(), lost, restarting).summary
    late: State = Failed(name="PendingTooLong", message="No start within 30 minutes. Its pod")
    assert "did not start in time" in supposed(Pending(), late).summary


def test_an_earlier_crash_does_not_explain_a_later_one() -> None:
    """Killed for too little memory, alive after all by a heartbeat, then lost with its node."""

    def at(minute: int, state: State) -> State:
        moment = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
        return state.model_copy(update={"timestamp": moment})

    states = (
        at(0, Running()),
        at(10, GONE),
        at(10, Failed(name="Restarting")),
        at(12, Running()),
        at(30, Crashed(message="No sign of life for 15 minutes: the node")),
    )
    killed = PodProblem("OOMKilled", "x", datetime(2026, 1, 1, 12, 10, 5, tzinfo=UTC))
    assert "no heartbeat" in supposed(*states, problems=(killed,)).summary
    assert "OOMKilled" in supposed(*states[:3], problems=(killed,)).summary


@pytest.mark.parametrize(
    ("state", "level", "expected"),
    [
        (Completed(message="3 images, 90 grains, 80.0% viable"), Level.OK, "done (Completed)"),
        (Completed(name="NothingNew", message="x"), Level.OK, "nothing new to do"),
        (Completed(name="NoImages", message="no pictures"), Level.ERROR, "no pictures to count"),
        (
            Completed(name="NotPromoted", message="model x"),
            Level.WARNING,
            "the gate did not promote",
        ),
        (Failed(message="model 'x' in s3://y is altered"), Level.ERROR, "the run failed (Failed)"),
        (Failed(name="TimedOut", message="x"), Level.ERROR, "exceeded its time limit"),
        (Cancelled(message=LIMIT_REACHED), Level.WARNING, "another run of this deployment"),
        (Cancelled(), Level.WARNING, "it was cancelled"),
        (State(type=StateType.CANCELLING), Level.INFO, "it is being cancelled"),
        (State(type=StateType.PAUSED), Level.WARNING, "it is paused"),
    ],
)
def test_other_ends(state: State, level: Level, expected: str) -> None:
    found = supposed(Running(), state)
    assert (found.level, expected in found.summary) == (level, True), found
    if state.name == "NoImages":
        assert "block 'lab', 2026/detect_images/" in found.resolution


def test_no_gpu() -> None:
    found = supposed(Running(), Failed(message=f"{NO_GPU_TEXT} on this machine: run on"))
    assert "no usable GPU" in found.summary
    assert "device=cpu" in found.resolution


def test_failed_images_are_listed(prefect_server: EmbeddedPrefect) -> None:
    rows = [{"filename": f"{n}.png", "reason": "the file is cut off"} for n in range(25)]
    story = Story(
        (Running(), Completed(name="CompletedWithFailures", message="9 images; 250 failed")),
        artifacts={"failed-images": ("table", rows, "250 failed")},
    )
    _, (main, images) = tell(story)
    assert main.level is Level.WARNING
    assert images.summary == "250 pictures could not be counted"
    assert "0.png: the file is cut off" in images.detail
    assert "230 more in pollen_counts.csv" in images.detail


DUE = datetime.now(UTC) - timedelta(minutes=20)


@pytest.mark.parametrize(
    ("story", "level", "expected", "remedy"),
    [
        (Story((Late(scheduled_time=DUE),)), Level.ERROR, "no worker is online", "kubectl"),
        (
            Story((Late(scheduled_time=DUE),), kind="process"),
            Level.ERROR,
            "no worker is online",
            "prefect worker start --pool",
        ),
        (
            Story((Late(scheduled_time=DUE),), workers=("one",)),
            Level.WARNING,
            "none starts the run",
            "limit",
        ),
        (
            Story((Late(scheduled_time=DUE),), kind=None),
            Level.ERROR,
            "no worker will start",
            "deploy",
        ),
        (
            Story((Scheduled(scheduled_time=datetime(2999, 1, 1, tzinfo=UTC)),)),
            Level.INFO,
            "it will start at 2999-01-01",
            "",
        ),
        (
            Story((AwaitingConcurrencySlot(),)),
            Level.INFO,
            "another run of this deployment is active",
            "wait",
        ),
        (Story(PENDING, workers=("one",)), Level.INFO, "it is starting", ""),
    ],
)
def test_runs_that_wait(
    prefect_server: EmbeddedPrefect, story: Story, level: Level, expected: str, remedy: str
) -> None:
    found = first(story)
    assert (found.level, expected in found.summary) == (level, True), found
    assert remedy in found.resolution


def test_a_run_at_work_shows_its_progress(prefect_server: EmbeddedPrefect) -> None:
    bar = {"detection-progress": ("progress", 41.7, "5 of 12 pictures counted, 0 failed")}
    found = first(Story((Running(),), artifacts=bar))
    assert found.level is Level.OK
    assert "42 %: 5 of 12 pictures counted" in found.detail


def test_every_category_of_the_observer_is_explained() -> None:
    assert {category.value for category in DiagnosisCategory} <= EXPLAINED.keys()


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("pollen.detection.profile", NO_GPU_TEXT),
        ("prefect.workers.base", NOT_SUBMITTED),
        ("prefect_kubernetes.worker", "Unable to create Kubernetes job"),
        ("prefect_kubernetes.observer", "No active or succeeded pods found for any job"),
        ("prefect_kubernetes.observer", "Kubernetes job was deleted"),
        ("prefect_kubernetes.observer", '"%s: %s Resolution: %s"'),
        ("prefect_kubernetes.observer", '"kubernetes.diagnosis"'),
        ("prefect.runner._flow_run_executor", "Process exited with status code: {exit_code}. "),
        ("prefect.states", "Execution was aborted by a termination signal."),
        ("prefect.states", "Request to {request.url} failed: "),
        ("prefect.states", "Request failed while attempting to contact the server"),
        ("prefect.server.orchestration.core_policy", LIMIT_REACHED),
    ],
)
def test_the_words_that_are_looked_for_are_still_said(module: str, text: str) -> None:
    package, _, name = module.partition(".")
    folder = importlib.util.find_spec(package)
    assert folder is not None
    assert folder.origin is not None
    source = Path(folder.origin).parent.joinpath(*name.split(".")).with_suffix(".py")
    assert text in source.read_text("utf-8")
