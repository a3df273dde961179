"""`pollen setup` against a real Prefect server that asks for a password, and a real S3 server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from pollen.layout import promotion_key
from services.commands.setup import run_setup
from services.console import ERR, OUT
from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.embedded.ports import free_ports
from services.setup.automation_files import PREFIX
from services.setup.limits import roots
from services.site import Overrides, read_site
from tasks.cluster.turns import limit_name
from tasks.models.registry import read_history
from tasks.storage.store import Location, open_store
from tests.support.prefect_servers import PreparedPrefect
from tests.support.wire import tapped

PASSWORD = "correct-horse-battery"
CHECKOUT = Path(__file__).parents[3]

#: Where the server tells of everything that setup may make or change.
_OBJECTS = (
    "block_documents",
    "block_types",
    "block_schemas",
    "work_pools",
    "work_queues",
    "v2/concurrency_limits",
    "automations",
    "deployments",
    "flows",
)

Setup = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def locked_server() -> Iterator[EmbeddedPrefect]:
    """A real Prefect server that lets nobody in without the password."""
    with PreparedPrefect(auth_string=f"operator:{PASSWORD}") as server:
        yield server


@pytest.fixture(autouse=True)
def application(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked_server: EmbeddedPrefect,
    s3_server: EmbeddedS3,
) -> Iterator[Path]:
    """The shipped job templates and automations with two deployments, and both servers current."""
    folder = tmp_path / "app"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "count.py").write_text("@flow(name='count')\ndef count(): ...\n")
    (folder / "deployments").symlink_to(CHECKOUT / "deployments")
    with locked_server.active(), s3_server.active():
        monkeypatch.setenv("POLLEN_APP_DIR", str(folder))
        # Endpoints are said by the site files of these tests, keys come from the environment.
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        monkeypatch.setenv("KUBECONFIG", "/nowhere")
        yield folder


@pytest.fixture
def client(application: Path) -> Iterator[SyncPrefectClient]:
    """A client of the locked server."""
    with get_client(sync_client=True) as connected:
        yield connected


@pytest.fixture
def site(tmp_path: Path, application: Path, name: str, s3_server: EmbeddedS3) -> Path:
    """A site file with names of its own: the server is shared by the tests of this module."""
    (application / "prefect.yaml").write_text(
        "deployments:\n"
        f"- {{name: {name}, entrypoint: 'flows/count.py:count', work_pool: {{name: {name}-gpu}}}}\n"
    )
    path = tmp_path / "site.yaml"
    path.write_text(
        "storage:\n"
        f"  block: {name}\n"
        "  bucket: pollen\n"
        f"  folder: {name}\n"
        f"  endpoint_url: {s3_server.endpoint_url}\n"
        "prefixes: ['', second]\n"
        "pools:\n"
        f"  {name}-gpu: {{template: gpu}}\n"
        f"  {name}-cpu: {{type: process}}\n"
    )
    return path


@pytest.fixture
def setup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], s3_server: EmbeddedS3
) -> Setup:
    """Set up as the command does; exit code and all that was printed, which never holds a secret."""
    monkeypatch.setattr(OUT, "_width", 300)
    monkeypatch.setattr(ERR, "_width", 300)

    def run(config: Path, overrides: Overrides | None = None, **options: bool) -> tuple[int, str]:
        code = run_setup(config, overrides or Overrides(), **options)
        told = capsys.readouterr()
        text = told.out + told.err
        assert "Traceback" not in text
        for secret in (PASSWORD, s3_server.secret_key, s3_server.access_key):
            assert secret not in text
        return code, text

    return run


def everything(server: EmbeddedPrefect) -> dict[str, Any]:
    """All objects of the server, with the times of their last changes."""
    with httpx.Client(auth=("operator", PASSWORD), trust_env=False) as raw:
        replies = {
            name: raw.post(f"{server.api_url}/{name}/filter", json={"limit": 200})
            for name in _OBJECTS
        }
    return {
        name: sorted(reply.raise_for_status().json(), key=lambda each: str(each["id"]))
        for name, reply in replies.items()
    }


def stored(server: EmbeddedS3, folder: str) -> list[tuple[object, ...]]:
    """All objects below a folder of the bucket, with the times of their last changes."""
    listed = server.client().list_objects_v2(Bucket="pollen", Prefix=f"{folder}/")
    return [
        (each["Key"], each["ETag"], each["LastModified"]) for each in listed.get("Contents", ())
    ]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_dry_run_shows_all_of_it_and_changes_nothing(
    setup: Setup, site: Path, name: str, locked_server: EmbeddedPrefect, s3_server: EmbeddedS3
) -> None:
    before = everything(locked_server)
    code, told = setup(site, dry_run=True)
    assert code == 0
    for part in (f"{name}-credentials", f"s3://pollen/{name}", f"{name}-gpu", f"{name}-cpu"):
        assert part in told
    assert f"pollen-root-{name}.second-" in told
    assert "promote the bundled model" in told
    assert "Nothing was changed: this was a dry run." in told
    assert everything(locked_server) == before
    assert stored(s3_server, name) == []


def test_the_first_time_makes_all_and_the_second_changes_nothing(
    setup: Setup,
    site: Path,
    name: str,
    client: SyncPrefectClient,
    locked_server: EmbeddedPrefect,
    s3_server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, told = setup(site)
    assert code == 0
    assert f"Deployments in prefect.yaml that are not on the server yet: count/{name}." in told
    assert "POLLEN_IMAGE=<image with its tag> prefect --no-prompt deploy --all" in told
    declared = read_site(site)
    for root in roots(declared):
        history = read_history(open_store(root))
        assert history.current is not None
        assert (history.highest, history.current.kind) == (1, "first")
        assert client.read_global_concurrency_limit_by_name(limit_name(root)).limit == 1
    assert client.read_work_pool(f"{name}-gpu").type == "kubernetes"
    assert client.read_work_pool(f"{name}-cpu").type == "process"
    assert [each for each in client.read_automations() if each.name.startswith(PREFIX)]
    document = client.read_block_document_by_name(name, "s3-bucket")
    assert s3_server.secret_key not in str(document.data)

    before, objects = everything(locked_server), stored(s3_server, name)
    asked, wire = requests(monkeypatch), tapped(monkeypatch)
    code, told = setup(site)
    assert code == 0
    assert "Nothing to change." in told
    assert "Changes" not in told
    assert {request for request in asked if request[0] != "GET" and not is_reading(request[1])} == (
        set()
    )
    assert len(asked) > 5
    assert set(wire.seen) <= {"ListObjectsV2", "GetObject", "HeadObject"}
    assert everything(locked_server) == before
    assert stored(s3_server, name) == objects
    code, told = setup(site, dry_run=True)
    assert (code, "Nothing to change." in told, "dry run" in told) == (0, True, False)


def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Methods and paths of all requests that are sent to the Prefect server from now on."""
    seen: list[tuple[str, str]] = []
    send = httpx.Client.send

    def watched(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401
        seen.append((request.method, request.url.path))
        return send(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", watched)
    return seen


def is_reading(path: str) -> bool:
    """Whether a POST only asks: Prefect's questions with conditions are of that kind."""
    return path.endswith("/filter")


def test_a_changed_site_file_changes_what_it_says_and_nothing_else(
    setup: Setup, site: Path, name: str, client: SyncPrefectClient, locked_server: EmbeddedPrefect
) -> None:
    setup(site)
    flow = client.create_flow_from_name("count")
    for deployment, tag in ((f"{name}-left", "pollen"), (f"{name}-theirs", "lab")):
        client.create_deployment(flow_id=flow, name=deployment, tags=[tag])
    before = everything(locked_server)

    edit(site, "template: gpu", "template: gpu, variables: {shm_size: 4Gi}")
    edit(site, "['', second]", "['', third]")
    code, told = setup(site)
    assert code == 0
    assert "variables of the job template: shm_size" in told

    after = everything(locked_server)
    changed = {kind for kind in before if before[kind] != after[kind]}
    assert changed == {"work_pools", "v2/concurrency_limits", "deployments"}
    assert names(before, after, "work_pools") == {f"{name}-gpu"}
    assert names(before, after, "deployments") == {f"{name}-left"}
    second, third = (limit_name(Location(block=name, prefix=each)) for each in ("second", "third"))
    assert names(before, after, "v2/concurrency_limits") == {second, third}
    assert third in {each["name"] for each in after["v2/concurrency_limits"]}
    # A root that left the file keeps its pictures, results and models.
    assert read_history(open_store(Location(block=name, prefix="second"))).highest == 1
    assert read_history(open_store(Location(block=name, prefix="third"))).highest == 1


def names(before: dict[str, Any], after: dict[str, Any], kind: str) -> set[str]:
    """Names of the objects of a kind that are not as they were."""
    return {each["name"] for each in before[kind] if each not in after[kind]} | {
        each["name"] for each in after[kind] if each not in before[kind]
    }


def test_a_model_promoted_before_stays_in_production(
    setup: Setup, site: Path, name: str, s3_server: EmbeddedS3
) -> None:
    promoted = b'{"version": "ours-1", "sha256": "%s"}' % (b"0" * 64)
    key = f"{name}/{promotion_key(7)}"
    s3_server.client().put_object(Bucket="pollen", Key=key, Body=promoted)
    setup(site)
    assert [each[0] for each in stored(s3_server, name) if "/second/" not in str(each[0])] == [key]
    _, told = setup(site, dry_run=True, verbose=True)
    assert "ours-1 (promotion 7)" in told


def test_storage_out_of_reach_leaves_only_the_models_undone(
    setup: Setup, site: Path, name: str, client: SyncPrefectClient, s3_server: EmbeddedS3
) -> None:
    edit(site, s3_server.endpoint_url, f"http://127.0.0.1:{free_ports(1)[0]}")
    setup(site, dry_run=True)
    code, told = setup(site)
    assert code == 2
    assert "2 of the changes could not be made" in told
    assert client.read_work_pool(f"{name}-cpu").type == "process"
    limit = limit_name(Location(block=name))
    assert client.read_global_concurrency_limit_by_name(limit).limit == 1
    code, told = setup(site, dry_run=True)
    assert code == 0
    assert told.count("can't read which model is in production") == 2


def test_what_the_server_refuses_is_told_and_the_rest_is_done(
    setup: Setup, site: Path, name: str, client: SyncPrefectClient
) -> None:
    """Prefect keeps names of pools that begin with its own for itself."""
    edit(site, f"  {name}-cpu:", f"  prefect-{name}:")
    code, told = setup(site)
    assert code == 2
    assert "1 of the changes could not be made" in told
    assert "the server answered HTTP 403: Work pools starting with 'Prefect' are reserved" in told
    limit = limit_name(Location(block=name))
    assert client.read_global_concurrency_limit_by_name(limit).limit == 1


def test_a_server_that_goes_away_in_the_middle_ends_it_with_what_was_done(
    setup: Setup, site: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(SyncPrefectClient, "create_global_concurrency_limit", gone)
    code, told = setup(site)
    assert code == 2
    assert "can't be reached (connection refused): check PREFECT_API_URL" in told
    changes = told.partition("Changes")[2]
    assert f"{name}-cpu" in changes
    assert "model" not in changes


def test_a_person_who_stops_it_is_told_how_far_it_came(
    setup: Setup, site: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("services.setup.first_model.register_bundled", stop)
    code, told = setup(site)
    assert code == 2
    assert "stopped. Changes that were made stay" in told
    assert f"{name}-cpu" in told.partition("Changes")[2]
    monkeypatch.undo()


def test_the_command_line_is_heard_over_the_file(
    setup: Setup, site: Path, name: str, client: SyncPrefectClient
) -> None:
    code, _ = setup(site, Overrides(bucket="pollen", folder=f"{name}/deeper", pools="process"))
    assert code == 0
    assert client.read_work_pool(f"{name}-gpu").type == "process"
    block = client.read_block_document_by_name(name, "s3-bucket")
    assert block.data["bucket_folder"] == f"{name}/deeper"


def test_a_deployment_on_a_pool_that_nobody_declares_is_noted(
    setup: Setup, site: Path, application: Path, name: str
) -> None:
    edit(application / "prefect.yaml", f"{{name: {name}-gpu}}", "{name: a100}")
    _, told = setup(site, dry_run=True)
    assert "work pools that are neither in the site file nor on the server: a100" in told


def test_another_version_of_the_server_is_noted(
    setup: Setup, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect.__version__", "3.99.0")
    _, told = setup(site, dry_run=True)
    assert "this program 3.99.0: use one version for server, worker and image" in told


class TestCanNotBegin:
    """One clear error, exit code 2, and nothing was changed."""

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, "PREFECT_API_AUTH_STRING is not set"),
            ("operator:mistyped", "PREFECT_API_AUTH_STRING is refused"),
        ],
    )
    def test_the_server_does_not_let_us_in(
        self, setup: Setup, site: Path, given: str | None, expected: str
    ) -> None:
        with temporary_settings({PREFECT_API_AUTH_STRING: given}):
            code, told = setup(site)
        assert code == 2
        assert expected in told
        assert "mistyped" not in told

    def test_no_server_is_named(self, setup: Setup, site: Path) -> None:
        with temporary_settings({PREFECT_API_URL: None}):
            code, told = setup(site)
        assert code == 2
        assert "no Prefect server is named: set PREFECT_API_URL" in told

    def test_the_server_is_out_of_reach(self, setup: Setup, site: Path) -> None:
        url = f"http://me:{PASSWORD}@127.0.0.1:{free_ports(1)[0]}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            code, told = setup(site)
        assert code == 2
        assert "the Prefect server at http://127.0.0.1:" in told
        assert "can't be reached" in told

    def test_the_address_is_not_that_of_the_api(
        self, setup: Setup, site: Path, locked_server: EmbeddedPrefect
    ) -> None:
        with temporary_settings({PREFECT_API_URL: locked_server.ui_url}):
            code, told = setup(site)
        assert code == 2
        assert "does PREFECT_API_URL end with /api?" in told

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("  bucket: pollen\n", "", "no bucket is named"),
            ("bucket:", "buckte:", "'storage.buckte' is not a setting"),
            ("template: gpu", "variables: {}", "has no job template"),
            ("template: gpu", "template: gpu, variables: {shm: 1}", "did you mean shm_size?"),
        ],
    )
    def test_the_site_file_can_not_be_used(
        self,
        setup: Setup,
        site: Path,
        locked_server: EmbeddedPrefect,
        old: str,
        new: str,
        expected: str,
    ) -> None:
        before = everything(locked_server)
        edit(site, old, new)
        code, told = setup(site)
        assert code == 2
        assert expected in told
        assert everything(locked_server) == before

    def test_prefect_yaml_is_missing(self, setup: Setup, site: Path, application: Path) -> None:
        (application / "prefect.yaml").unlink()
        code, told = setup(site)
        assert code == 2
        assert "prefect.yaml does not exist" in told
