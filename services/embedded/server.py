"""What the embedded servers share: their folder, their ports, starting, waiting and stopping."""

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from services.embedded.ports import is_free
from services.embedded.process import SupervisedProcess

_POLL_S = 0.1
_PORT_ATTEMPTS = 5


class EmbeddedServerError(RuntimeError):
    """An embedded server could not start; the message carries the end of its log."""


class _PortTakenError(EmbeddedServerError):
    """Somebody else took the port between our look and the server's bind."""


class EmbeddedServer(ABC):
    """A server that runs as long as its owner wants, and no longer than its owner lives.

    Use it as a context manager. In between it can be stopped, killed and started again: it keeps
    its ports and its data, as a real server would after a restart.

    Args:
        name: What messages call it.
        folder: Where the server keeps its data; None for a temporary folder.
        start_timeout_s: How long to wait until it answers.
    """

    _port_count = 1
    _grace_s = 10.0

    def __init__(self, name: str, folder: Path | None, start_timeout_s: float) -> None:
        self.name = name
        self._start_timeout_s = start_timeout_s
        self._scratch = tempfile.TemporaryDirectory(prefix="pollen-", ignore_cleanup_errors=True)
        self._runtime_folder = Path(self._scratch.name)
        self._data_folder = folder.resolve() if folder else self._runtime_folder / "data"
        self._data_folder.mkdir(parents=True, exist_ok=True)
        self._ports: tuple[int, ...] = ()
        self._process: SupervisedProcess | None = None

    @abstractmethod
    def _choose_ports(self) -> tuple[int, ...]:
        """Return ports that are free now."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the command line; without secrets, since other users can read it."""

    @abstractmethod
    def _server_environment(self) -> dict[str, str]:
        """Return the whole environment of the server."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether this very server, and not another on the same port, is ready."""

    @property
    def running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.exit_code is None

    @property
    def pid(self) -> int | None:
        """Process group of the server; None while it does not run."""
        return self._process.pid if self._process and self.running else None

    def start(self) -> None:
        """Start the server and wait until it answers; do nothing if it runs.

        Raises:
            EmbeddedServerError: It ended, or did not answer in time.
        """
        if self.running:
            return
        if self._ports:
            self._start_once()
            return
        for attempts_left in reversed(range(_PORT_ATTEMPTS)):
            self._ports = self._choose_ports()
            try:
                self._start_once()
            except _PortTakenError:
                self._ports = ()
                if not attempts_left:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server properly; its data and ports stay for the next start."""
        if self._process:
            self._process.stop()
        self._process = None

    def kill(self) -> None:
        """Kill the server at once, as a crash would; its data and ports stay."""
        if self._process:
            self._process.kill()
        self._process = None

    def restart(self) -> None:
        """Stop the server and start it again on the same ports and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove what it left, except a data folder given by the caller."""
        self.stop()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start_once(self) -> None:
        process = SupervisedProcess(
            self._command(),
            environment=self._server_environment(),
            folder=self._runtime_folder,
            log_path=self._runtime_folder / "server.log",
            grace_s=self._grace_s,
            remove_if_orphaned=self._runtime_folder,
        )
        try:
            self._wait(process)
        except BaseException:
            process.kill()
            raise
        self._process = process

    def _wait(self, process: SupervisedProcess) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if process.exit_code is not None:
                self._raise_ended(process)
            if self._answers():
                return
            time.sleep(_POLL_S)
        raise EmbeddedServerError(
            f"{self.name} did not answer on port {self._ports[0]} within "
            f"{self._start_timeout_s:g} s. A busy machine may need longer: try again. "
            f"The end of its log:\n{process.log_tail()}"
        )

    def _raise_ended(self, process: SupervisedProcess) -> None:
        taken = [port for port in self._ports if not is_free(port)]
        kind = _PortTakenError if taken else EmbeddedServerError
        cause = f" (another program took port {taken[0]})" if taken else ""
        raise kind(
            f"{self.name} ended while starting with exit code {process.exit_code}{cause}. "
            f"The end of its log:\n{process.log_tail()}"
        )
