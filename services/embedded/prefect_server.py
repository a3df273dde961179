"""A Prefect server on this machine, with its own database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.embedded.ports import LOOPBACK, free_ports
from services.embedded.server import EmbeddedServer, direct_connection

#: Time for logs and events to reach the server before it stops.
SECONDS_TO_SEND = 10


class EmbeddedPrefect(EmbeddedServer):
    """A real Prefect server on loopback with SQLite, telemetry off and none of the user's settings.

    Args:
        home: `PREFECT_HOME` of the server; None for a temporary folder, removed at the end.
        ui: Whether to serve the user interface at `ui_url`.
        auth_string: `user:password` that every client must give; None to let everybody in.
        start_timeout_s: Longest wait until it answers. A new database takes about 11 s on two idle
            cores, and 30 s if Python must compile the installed packages first.
    """

    name = "the embedded Prefect server"
    _variable_prefix = "PREFECT_"

    def __init__(
        self,
        *,
        home: Path | None = None,
        ui: bool = False,
        auth_string: str | None = None,
        start_timeout_s: float = 180.0,
    ) -> None:
        super().__init__(home, start_timeout_s)
        self._ui = ui
        self._auth_string = auth_string

    @property
    def home(self) -> Path:
        """`PREFECT_HOME` of this server and of programs that use `environment()`."""
        return self._data_folder

    @property
    def ui_url(self) -> str:
        """Address of the user interface."""
        return self._base_url

    @property
    def api_url(self) -> str:
        """Value of `PREFECT_API_URL` for this server."""
        return f"{self.ui_url}/api"

    def environment(self) -> dict[str, str]:
        """Return the variables that make a new Python process use this server and nothing else."""
        key = {"PREFECT_API_AUTH_STRING": self._auth_string} if self._auth_string else {}
        return {
            "PREFECT_API_URL": self.api_url,
            **key,
            **self._own_settings(),
            **direct_connection(),
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this process and its children use this server inside the `with` block."""
        with super().active():
            # Imported only now, because the first import reads the environment and the user's settings.
            from prefect.settings import (
                PREFECT_API_AUTH_STRING,
                PREFECT_API_URL,
                PREFECT_HOME,
                temporary_settings,
            )

            ours = {
                PREFECT_API_URL: self.api_url,
                PREFECT_API_AUTH_STRING: self._auth_string,
                PREFECT_HOME: self.home,
            }
            # In case Prefect was imported before.
            with temporary_settings(ours):
                try:
                    yield
                finally:
                    if self.running:
                        _send_logs_and_events()

    def _own_settings(self) -> dict[str, str]:
        return {
            "PREFECT_HOME": str(self.home),
            # A file that does not exist is an empty profile, so that the user's own is not read.
            "PREFECT_PROFILES_PATH": str(self.home / "profiles.toml"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",  # the client library has telemetry of its own
        }

    def _choose_ports(self) -> tuple[int, ...]:
        return free_ports(1)

    def _command(self) -> list[str]:
        address = ["--host", LOOPBACK, "--port", str(self._ports[0])]
        ui = "--ui" if self._ui else "--no-ui"
        return [sys.executable, "-m", "prefect", "server", "start", *address, ui]

    def _server_environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        }
        # In the environment, because other users of this machine can read the command line.
        key = {"PREFECT_SERVER_API_AUTH_STRING": self._auth_string} if self._auth_string else {}
        level = {"PREFECT_SERVER_LOGGING_LEVEL": "WARNING"}
        links = {"PREFECT_UI_URL": self.ui_url}  # in messages about runs
        # Address from which the pages get data; by default it has Prefect's usual port, not that of the server.
        pages = {"PREFECT_SERVER_UI_API_URL": self.api_url} if self._ui else {}
        return {**inherited, **self._own_settings(), **key, **level, **links, **pages}

    def _answers(self) -> bool:
        """Return whether the server is healthy and its home is ours."""
        import httpx

        user, _, password = (self._auth_string or "").partition(":")
        auth = httpx.BasicAuth(user, password) if self._auth_string else None
        try:
            with httpx.Client(
                base_url=self.api_url, auth=auth, timeout=5.0, trust_env=False
            ) as client:
                if client.get("/health").status_code != httpx.codes.OK:
                    return False
                settings = client.get("/admin/settings").raise_for_status().json()
        except httpx.HTTPError:  # not listening yet
            return False
        return Path(settings["home"]) == self.home


def _send_logs_and_events() -> None:
    """Let Prefect's background threads send logs and events while the server is still running.

    Otherwise they would try for minutes when the process ends, and it would wait for them.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=SECONDS_TO_SEND)
