"""What every test shares: isolation from the user's own settings, and real servers.

The isolation happens when this file is imported, before any test imports a library: Prefect,
Ultralytics and matplotlib read their settings at import.
"""

import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from platformdirs import user_cache_path

from services.embedded import EmbeddedPrefect, EmbeddedS3
from tests.support.prefect_servers import SHARED, PreparedPrefect

_REAL_PICTURES = Path("..", "shared", "data", "pollen")
_TESTS = Path(__file__).parent
_FOREIGN_PREFIXES = ("AWS_", "PREFECT_", "YOLO_", "XDG_")

# Removed by its finaliser when the interpreter ends, after the servers that use it.
_SCRATCH = tempfile.TemporaryDirectory(prefix="pollen-tests-", ignore_cleanup_errors=True)


def _isolate(scratch: Path) -> None:
    """Put the user's settings away and every cache below the scratch folder."""
    # Bytecode is no result; without it, each of the processes that tests start takes a second more.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for name in list(os.environ):
        if name.startswith(_FOREIGN_PREFIXES):
            del os.environ[name]
    # The processes of pytest-xdist inherit the variable from the one that starts them.
    shared = Path(os.environ.setdefault(SHARED, str(scratch)))
    home = scratch / "home"
    home.mkdir()
    os.environ.update(
        HOME=str(home),
        MPLCONFIGDIR=str(shared / "matplotlib"),
        MPLBACKEND="Agg",
        # No test may find credentials outside those it is given.
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        PREFECT_HOME=str(home / "prefect"),
        PREFECT_PROFILES_PATH=str(home / "prefect" / "profiles.toml"),
        # Without it, a flow called by mistake without `prefect_server` starts a server of its own.
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
        DO_NOT_TRACK="1",
        YOLO_CONFIG_DIR=str(home / "ultralytics"),
        YOLO_OFFLINE="true",
        YOLO_AUTOINSTALL="false",
        # As `quiet_ultralytics` sets it: whichever test imports the library first, it is as in the product.
        YOLO_VERBOSE="false",
    )
    # A model is converted once; what else a run keeps belongs to one process and its children.
    prepared = user_cache_path("pollen") / "openvino"
    prepared.parent.mkdir(parents=True)
    (shared / "openvino").mkdir(exist_ok=True)
    prepared.symlink_to(shared / "openvino")


_isolate(Path(_SCRATCH.name))


#: Fixtures that start a server; a test that uses one of them, even indirectly, gets the marker `server`.
_SERVERS = frozenset({"s3_server", "prefect_process", "locked_server", "amazon"})

#: Files and folders of which most tests train, start processes or tell whole stories: all of these are `slow`.
_SLOW = (
    "flows",
    "pollen/dataset/test_merging.py",
    "pollen/detection/test_pipeline.py",
    "pollen/evaluation/test_evaluate.py",
    "pollen/frames/test_memory.py",
    "pollen/training/recipe",
    "pollen/training/test_ultralytics_run.py",
    "security",
    "services/command_line",
    "services/commands",
    "services/doctor/checks/test_cluster.py",
    "services/events/test_sqs.py",
    "tasks/storage/test_scratch.py",
    "tasks/training/test_dataset.py",
    "tools/test_deployment_lint.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use servers or are slow, and put the longest files first: no file is alone at the end."""
    seconds: dict[Path, float] = defaultdict(float)
    for item in items:
        if _SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")
        slow = item.get_closest_marker("slow")
        if slow is None and any(item.path.is_relative_to(_TESTS / each) for each in _SLOW):
            slow = pytest.mark.slow(seconds=1).mark
            item.add_marker(slow.name)
        if slow:
            seconds[item.path] += slow.kwargs.get("seconds", 10)
    items.sort(key=lambda item: -seconds[item.path])


# Examples are bounded by their number: time limits fail on a busy machine.
hypothesis_settings.register_profile("pollen", deadline=None)
hypothesis_settings.load_profile("pollen")


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Leave variables as they were: monkeypatch inside `active()` puts back what that took away."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[EmbeddedS3]:
    """A real S3 server with the bucket ``pollen``, shared by all tests: use own prefixes."""
    with EmbeddedS3(["pollen"]) as server:
        yield server


@pytest.fixture(scope="session")
def prefect_process() -> Iterator[EmbeddedPrefect]:
    """A real Prefect server, shared by all tests; ``prefect_server`` also makes it current."""
    with PreparedPrefect() as server:
        yield server


@pytest.fixture
def prefect_server(prefect_process: EmbeddedPrefect) -> Iterator[EmbeddedPrefect]:
    """The real Prefect server, to which the flows called in this test report."""
    with prefect_process.active():
        yield prefect_process


@pytest.fixture(scope="session")
def real_pictures(pytestconfig: pytest.Config) -> Path:
    """Folder of real labelled micrographs, beside the checkout where a laboratory has them."""
    folder = (pytestconfig.rootpath / _REAL_PICTURES).resolve()
    if not (folder / "data.yaml").is_file():
        pytest.skip(f"the real labelled micrographs are not at {_REAL_PICTURES}")
    return folder
