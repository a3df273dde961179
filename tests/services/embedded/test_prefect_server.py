import os
from pathlib import Path

import httpx
import psutil
import pytest

from services.embedded import EmbeddedPrefect
from services.embedded.ports import LOOPBACK, is_free


def flow_run_names(server: EmbeddedPrefect) -> set[str]:
    """Return the names of all flow runs that the server knows."""
    reply = httpx.post(f"{server.api_url}/flow_runs/filter", json={}, trust_env=False)
    return {run["name"] for run in reply.raise_for_status().json()}


def server_settings(server: EmbeddedPrefect) -> dict[str, object]:
    reply = httpx.get(f"{server.api_url}/admin/settings", trust_env=False)
    settings: dict[str, object] = reply.raise_for_status().json()
    return settings


def test_a_flow_called_here_reports_to_it(prefect_server: EmbeddedPrefect) -> None:
    from prefect import flow

    @flow(flow_run_name="embedded-report")
    def count() -> int:
        return 3

    assert count() == 3
    assert "embedded-report" in flow_run_names(prefect_server)


def test_it_listens_on_loopback_only(prefect_process: EmbeddedPrefect) -> None:
    assert prefect_process.pid is not None
    supervisor = psutil.Process(prefect_process.pid)
    listening = {
        connection.laddr.ip
        for process in supervisor.children(recursive=True)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {LOOPBACK}


def test_its_settings_are_its_own(prefect_process: EmbeddedPrefect) -> None:
    settings = server_settings(prefect_process)
    assert settings["home"] == str(prefect_process.home)
    server = settings["server"]
    assert isinstance(server, dict)
    assert server["analytics_enabled"] is False


def test_active_puts_the_users_server_away_and_back(
    prefect_process: EmbeddedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    monkeypatch.setenv("PREFECT_API_KEY", "of-the-laboratory")
    before = PREFECT_API_URL.value()
    with prefect_process.active():
        assert PREFECT_API_URL.value() == prefect_process.api_url
        assert PREFECT_HOME.value() == prefect_process.home
        assert os.environ["PREFECT_API_URL"] == prefect_process.api_url
        assert "PREFECT_API_KEY" not in os.environ
    assert PREFECT_API_URL.value() == before
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["PREFECT_API_KEY"] == "of-the-laboratory"


@pytest.mark.slow
def test_runs_survive_a_crash_and_its_end_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prefect import flow

    # A server that took these over would look for a database that does not exist.
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite:///{tmp_path}/no/such.db")
    monkeypatch.setenv("PREFECT_SERVER_API_BASE_PATH", "/elsewhere")

    @flow(flow_run_name="before-the-crash")
    def count() -> None:
        return None

    with EmbeddedPrefect() as server:
        port, home = int(server.ui_url.rsplit(":", 1)[1]), server.home
        with server.active():
            count()
        server.kill()
        assert is_free(port)
        server.start()
        assert "before-the-crash" in flow_run_names(server)
    assert is_free(port)
    assert not home.exists()
