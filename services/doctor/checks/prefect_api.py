"""Check the Prefect server: reach, version and password."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import httpx
import prefect
from packaging.version import Version
from prefect.settings import get_current_settings

from services.doctor.checking import CONNECT_SECONDS, READ_SECONDS, About
from services.doctor.finding import Category, Finding
from services.prefect_server.connection import connected, without_password

_ABOUT = About(Category.PREFECT)
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def check_server() -> Iterator[Finding]:
    """Check that the server answers and lets us in, and that its version fits.

    Raises:
        PollenError: If it does not; the message names the remedy.
    """
    settings = get_current_settings()
    url = str(settings.api.url)
    shown = without_password(url)
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        yield _ABOUT.ok(f"the Prefect server at {shown} answers and lets us in")
        yield _version(client.api_version())
    yield from _open_to_all(url)
    if settings.api.tls_insecure_skip_verify:
        yield _ABOUT.warning(
            "the Prefect server's certificate is not checked (PREFECT_API_TLS_INSECURE_SKIP_VERIFY)",
            resolution="unset it, and name the server's CA file as PREFECT_API_SSL_CERT_FILE",
        )


def _version(server: str) -> Finding:
    ours = prefect.__version__
    there, here = Version(server), Version(ours)
    if there == here:
        return _ABOUT.ok(f"server and client have the same version ({ours})")
    summary = f"the Prefect server has version {server}, this program {ours}"
    resolution = "use one version for server, worker and image (the image of this project contains all three)"
    if there.major != here.major:
        return _ABOUT.error(summary, "different major versions are not compatible", resolution)
    newer = "an older server may refuse what this client sends" if there < here else ""
    return _ABOUT.warning(summary, newer, resolution)


def _open_to_all(url: str) -> Iterator[Finding]:
    """Ask without a password: everyone who is let in can read the secrets of blocks."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        answer = httpx.post(
            f"{bare.rstrip('/')}/work_pools/filter", json={"limit": 1}, timeout=CONNECT_SECONDS
        )
    except httpx.HTTPError:  # for example a CA that only Prefect's client is configured with
        yield _ABOUT.info("whether the server asks for a password was not checked")
        return
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        yield _ABOUT.ok("the server refuses access without a password")
    elif answer.is_success and parts.hostname in _LOOPBACK:
        yield _ABOUT.info(
            "the server asks for no password: fine as long as only this machine can reach it"
        )
    elif answer.is_success:
        yield _ABOUT.warning(
            "the server asks for no password: everyone who can reach it can start runs and read the keys in blocks",
            resolution="set PREFECT_SERVER_API_AUTH_STRING on the server and PREFECT_API_AUTH_STRING for worker, runs "
            "and people",
        )
