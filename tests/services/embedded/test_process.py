import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from services.embedded.process import SupervisedProcess

_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {start}time.sleep(600)"
)


def started(code: str, folder: Path, *, grace_s: float = 10.0) -> SupervisedProcess:
    return SupervisedProcess(
        [sys.executable, "-c", code],
        environment=dict(os.environ),
        folder=folder,
        log_path=folder / "log",
        grace_s=grace_s,
    )


def wait_for_line(process: SupervisedProcess, line: str) -> None:
    deadline = time.monotonic() + 20
    while line not in process.log_tail():
        assert time.monotonic() < deadline, process.log_tail()
        time.sleep(0.02)


def test_the_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    process = started("raise SystemExit(7)", tmp_path)
    deadline = time.monotonic() + 20
    while process.exit_code is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.exit_code == 7


def test_a_command_is_asked_to_stop_and_may_tidy_up(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('tidied up', flush=True)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    process = started(code, tmp_path)
    wait_for_line(process, "ready")
    process.stop()
    assert process.log_tail() == "ready\ntidied up"


def test_a_command_that_will_not_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    code = _STUBBORN.format(start="print('ready', flush=True); ")
    process = started(code, tmp_path, grace_s=0.3)
    wait_for_line(process, "ready")
    child = psutil.Process(process.pid).children()[0]
    process.stop()
    assert not child.is_running()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_what_the_command_started_ends_with_it(tmp_path: Path, ending: str) -> None:
    grandchild = _STUBBORN.format(start="")
    start = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {grandchild!r}]); "
        "print('ready', flush=True); "
    )
    process = started(_STUBBORN.format(start=start), tmp_path, grace_s=0.3)
    wait_for_line(process, "ready")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 2
    getattr(process, ending)()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_log_tail_is_the_last_twenty_lines(tmp_path: Path) -> None:
    process = started("print(*range(50), sep='\\n'); print('ready')", tmp_path)
    wait_for_line(process, "ready")
    assert process.log_tail().splitlines() == [*map(str, range(31, 50)), "ready"]
    process.stop()
