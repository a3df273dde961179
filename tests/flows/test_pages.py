"""What the pages of a real Prefect server make of a run's result, seen through a real browser."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.storage.store import Location
from tests.flows.test_flow_run import artifacts_of, detect_in, save_block
from tests.support.pictures import picture
from tests.support.prefect_servers import PreparedPrefect
from tests.support.runs import settings, upload

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "bad|`x`<b>_1_ www.x.png"


@pytest.fixture
def pages() -> Iterator[EmbeddedPrefect]:
    """A server with its pages: the one that other tests share has none."""
    with PreparedPrefect(ui=True) as server, server.active():
        yield server


def dom_of(url: str, profile: Path) -> str:
    """What a page holds when its scripts have run."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000")
    command = [str(BROWSER), *options, f"--user-data-dir={profile}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
def test_a_browser_shows_the_result_with_its_pictures(
    pages: EmbeddedPrefect, s3_server: EmbeddedS3, tmp_path: Path
) -> None:
    save_block("pages", s3_server, "flow/pages")
    inputs = {"a.png": picture(0), "b.png": picture(1), HOSTILE: b""}
    upload(s3_server, "flow/pages/detect_images", inputs)
    shown = artifacts_of(detect_in(Location(block="pages"), settings=settings()))

    dom = dom_of(f"{pages.ui_url}/artifacts/artifact/{shown['detection-summary'].id}", tmp_path)

    assert dom.count('src="data:image/jpeg;base64,') == 2
    assert "<table" in dom
    assert "(no folder)" in dom
    table = dom_of(f"{pages.ui_url}/artifacts/artifact/{shown['failed-images'].id}", tmp_path)
    for page in (dom, table):
        assert "bad|`x`&lt;b&gt;_1_ www.x.png" in page
