"""Check this machine, shell or pod: versions, and variables of the environment."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import prefect
from prefect.settings import get_current_settings

from pollen import __version__
from services.doctor.checking import About
from services.doctor.checks.storage import credentials_source
from services.doctor.finding import Category, Finding
from services.prefect_server.connection import without_password

_ABOUT = About(Category.CONFIGURATION)
_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
#: Variables that name files.
_FILES: Final = (
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "PREFECT_API_SSL_CERT_FILE",
)
_ADDRESSES: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def check_environment() -> Iterator[Finding]:
    """Check everything that can be seen without a server."""
    yield _ABOUT.ok(
        f"pollen {__version__}, Prefect {prefect.__version__}, Python {platform.python_version()}"
    )
    yield from _prefect()
    yield from _keys()
    for name in _ADDRESSES:
        address = os.environ.get(name)
        if address and urlsplit(address).scheme not in {"http", "https"}:
            yield _ABOUT.error(
                f"{name} is not an address: {address}",
                resolution="it must begin with https:// (or http://)",
            )
    for name in _FILES:
        file = os.environ.get(name)
        if file and not Path(file).exists():
            yield _ABOUT.error(
                f"{name} names {file}, which does not exist", resolution="correct or unset it"
            )


def _prefect() -> Iterator[Finding]:
    api = get_current_settings().api
    if api.url is None:
        yield _ABOUT.info(
            "PREFECT_API_URL is not set: the Prefect server was not checked",
            "commands on folders and buckets work without one",
            "set it to the server's address, such as http://127.0.0.1:4200/api",
        )
        return
    yield _ABOUT.ok(f"PREFECT_API_URL is {without_password(api.url)}")
    if not api.url.rstrip("/").endswith("/api"):
        yield _ABOUT.warning(
            "PREFECT_API_URL does not end with /api", resolution="the API is at <address>/api"
        )
    auth = api.auth_string.get_secret_value() if api.auth_string else None
    if auth is not None and ":" not in auth:
        yield _ABOUT.warning(
            "PREFECT_API_AUTH_STRING has no colon", resolution="it must be user:password"
        )


def _keys() -> Iterator[Finding]:
    given = {name: os.environ.get(name) or "" for name in _KEYS}
    missing = [name for name, value in given.items() if not value]
    if len(missing) == 1:
        yield _ABOUT.error(
            f"one of the two S3 keys is missing: {missing[0]}", resolution="set both, or neither"
        )
    for name, value in given.items():
        if value != value.strip():
            yield _ABOUT.error(
                f"{name} begins or ends with blanks or a line break: the S3 server will refuse it",
                resolution="`echo` adds a line break to a Secret, printf does not; kubectl create secret "
                "--from-env-file=/dev/stdin keeps the value out of files and command lines (docs/cluster.md, step 4)",
            )
    source = credentials_source() if len(missing) != 1 else None
    if source:
        yield _ABOUT.ok(f"S3 keys come from {source}")
    elif len(missing) == len(_KEYS):
        yield _ABOUT.info("no S3 keys in this environment: only blocks that hold keys can be used")
