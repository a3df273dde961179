"""How checks are run."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from services.doctor.checking import About, collect, in_thread
from services.doctor.finding import Category, Finding, Level
from tests.support.runs import REPOSITORY

ABOUT = About(Category.STORAGE)

HANGING = """
import asyncio, threading
from services.doctor.checking import About, collect, in_thread
from services.doctor.finding import Category

def hang():
    yield About(Category.STORAGE).ok("so far")
    threading.Event().wait()

found = []
asyncio.run(collect(About(Category.STORAGE), "it", in_thread(hang), found, seconds=0.2))
print([finding.summary for finding in found])
"""


def test_a_check_that_hangs_does_not_keep_the_program_alive() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['so far', 'it: no answer within 0 s']"


def test_a_check_that_fails_keeps_what_it_found() -> None:
    def fails() -> Iterator[Finding]:
        yield ABOUT.ok("so far")
        raise ZeroDivisionError("somebody made a mistake")

    found: list[Finding] = []
    asyncio.run(collect(ABOUT, "it", in_thread(fails), found))
    assert [finding.level for finding in found] == [Level.OK, Level.WARNING]
    assert "ZeroDivisionError" in found[1].summary


def test_it_has_the_settings_of_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> Iterator[Finding]:
        yield ABOUT.ok(str(PREFECT_API_URL.value()))

    found: list[Finding] = []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        asyncio.run(collect(ABOUT, "it", in_thread(look), found))
    assert [finding.summary for finding in found] == ["http://127.0.0.1:9/api"]
