"""The common part of the embedded servers: folder, ports, start, wait and stop."""

import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from services.embedded.ports import LOOPBACK, is_free
from services.embedded.process import SupervisedProcess

_POLL_S = 0.1
_PORT_ATTEMPTS = 5


def direct_connection() -> dict[str, str]:
    """Return the variables that keep connections to this machine away from a proxy of the user."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    hosts = ",".join(filter(None, [known, LOOPBACK, "localhost"]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


class EmbeddedServerError(RuntimeError):
    """An embedded server could not start; the message has the end of its log."""


class _PortTakenError(EmbeddedServerError):
    """Another program took the port between our check and the server's bind."""


class EmbeddedServer(ABC):
    """A server that does not outlive the process that started it.

    Use it as a context manager. Inside the block it can be stopped, killed and started again: it
    keeps its ports and its data, as a real server would after a restart.

    Args:
        folder: Folder for the server's data; None for a temporary folder.
        start_timeout_s: Longest wait until it answers.

    Attributes:
        name: The name of the server in messages.
    """

    name: ClassVar[str]
    # Environment variables with this prefix are settings of this kind of server.
    _variable_prefix: ClassVar[str]

    def __init__(self, folder: Path | None, start_timeout_s: float) -> None:
        self._start_timeout_s = start_timeout_s
        self._scratch = tempfile.TemporaryDirectory(prefix="pollen-", ignore_cleanup_errors=True)
        self._runtime_folder = Path(self._scratch.name)
        self._data_folder = folder.resolve() if folder else self._runtime_folder / "data"
        self._data_folder.mkdir(parents=True, exist_ok=True)
        self._ports: tuple[int, ...] = ()
        self._process: SupervisedProcess | None = None

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the variables that make a new process use this server and nothing else."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this process and its children use this server inside the `with` block.

        The user's variables for another server of this kind (`AWS_PROFILE`, ...) are removed
        inside the block and restored after it.
        """
        ours = self.environment()
        theirs = {name for name in os.environ if name.startswith(self._variable_prefix)}
        before = {name: os.environ.pop(name, None) for name in theirs | ours.keys()}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @abstractmethod
    def _choose_ports(self) -> tuple[int, ...]:
        """Return ports that are free now."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the command line, without secrets, because other users can read it."""

    @abstractmethod
    def _server_environment(self) -> dict[str, str]:
        """Return the whole environment of the server."""

    def _litter(self) -> list[Path]:
        """Return the paths that the server leaves outside its own folder."""
        return []

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether this server, and not another one on the same port, is ready."""

    @property
    def _base_url(self) -> str:
        """Address of the server's first port.

        Raises:
            EmbeddedServerError: If the server was never started.
        """
        if not self._ports:
            raise EmbeddedServerError(f"{self.name} has no address before its start")
        return f"http://{LOOPBACK}:{self._ports[0]}"

    @property
    def running(self) -> bool:
        """True if the server process is alive."""
        return self._process is not None and self._process.exit_code is None

    @property
    def pid(self) -> int | None:
        """Process group of the server; None while it does not run."""
        return self._process.pid if self._process and self.running else None

    def start(self) -> None:
        """Start the server and wait until it answers; do nothing if it runs.

        Raises:
            EmbeddedServerError: If it ended, or did not answer in time.
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
        """Stop the server properly; it keeps its data and ports for the next start."""
        if self._process:
            self._process.stop()
        self._remove_litter()

    def kill(self) -> None:
        """Kill the server at once, as a crash would; it keeps its data and ports."""
        if self._process:
            self._process.kill()
        self._remove_litter()

    def restart(self) -> None:
        """Stop the server and start it again on the same ports and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove its files, except a data folder given by the caller."""
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
            litter=[self._runtime_folder, *self._litter()],
        )
        self._process = process
        try:
            self._wait(process)
        except BaseException:
            self.kill()
            raise

    def _remove_litter(self) -> None:
        self._process = None
        for path in self._litter():
            path.unlink(missing_ok=True)

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
            f"{self._start_timeout_s:g} s. A busy machine may need more time: try again. "
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
