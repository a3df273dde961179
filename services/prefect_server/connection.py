"""Reach the configured Prefect server, or fail with one clear error."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import get_current_settings

from pollen.errors import PollenError

#: Seconds until a server that does not accept the connection counts as out of reach.
CONNECT_SECONDS = 10.0
#: Seconds until a server that accepted a request but does not answer counts as out of reach.
READ_SECONDS = 60.0


@contextmanager
def connected(
    *, connect_s: float = CONNECT_SECONDS, read_s: float = READ_SECONDS, reads_pools: bool = True
) -> Iterator[SyncPrefectClient]:
    """Open a client of the configured server, after the server answered and let it in.

    Args:
        connect_s: Seconds until a server that does not accept the connection counts as out of reach.
        read_s: Seconds until a server that accepted it but does not answer counts as out of reach.
        reads_pools: Whether to check by a work pool that the server lets us in; not for accounts that may not
            read work pools.

    Raises:
        PollenError: If no server is configured, it is out of reach, or it refuses; also inside the
            `with` block, if it stops answering.
    """
    url = get_current_settings().api.url
    if url is None:
        raise PollenError(
            "no Prefect server is named: set PREFECT_API_URL to its address, such as http://127.0.0.1:4200/api"
        )
    shown = without_password(url)
    with explained_server(shown):
        timeout = httpx.Timeout(read_s, connect=connect_s)
        with get_client(httpx_settings={"timeout": timeout}, sync_client=True) as client:
            _greet(client, shown, reads_pools=reads_pools)
            yield client


@contextmanager
def explained_server(shown: str) -> Iterator[None]:
    """Turn errors of Prefect's client into ours, without quoting a whole request or reply.

    The reply to a refused request repeats the request, and blocks may hold keys.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise PollenError(_refused(error.response, shown)) from error
    except httpx.TransportError as error:
        raise PollenError(
            f"the Prefect server at {shown} can't be reached ({_reason(error)}): check PREFECT_API_URL and that "
            "the server runs; a server on a cluster is reached from inside, or through `kubectl port-forward`",
            heals=True,
        ) from error


def version_note(client: SyncPrefectClient) -> str | None:
    """Return a note if server and client have different versions, else None."""
    server = client.api_version()
    if server == prefect.__version__:
        return None
    return (
        f"the Prefect server has version {server}, this program {prefect.__version__}: use one version for server, "
        "worker and image"
    )


def refusal(response: httpx.Response) -> str:
    """Explain why the server refused a request, without the parts of its reply that repeat the request."""
    reasons = ", ".join(_reasons(response))
    return f"the server answered HTTP {response.status_code}" + (f": {reasons}" if reasons else "")


def without_password(url: str) -> str:
    """Remove user and password from an address."""
    return re.sub(r"//[^/@\s]*@", "//", url)


def _greet(client: SyncPrefectClient, shown: str, *, reads_pools: bool) -> None:
    try:
        client.api_version()
    except JSONDecodeError as error:
        raise PollenError(
            f"the server at {shown} answers, but not as a Prefect API: does PREFECT_API_URL end with /api?"
        ) from error
    if reads_pools:
        # The version may be public; this request shows whether we are let in.
        client.read_work_pools(limit=1)
    logging.getLogger("pollen").info("reached the Prefect server at %s", shown)


def _reason(error: httpx.TransportError) -> str:
    return without_password(str(error)) or type(error).__name__


def _refused(response: httpx.Response, shown: str) -> str:
    status = response.status_code
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        given = "is not set" if get_current_settings().api.auth_string is None else "is refused"
        return (
            f"the Prefect server at {shown} does not let us in (HTTP {status}): PREFECT_API_AUTH_STRING {given}; it "
            "must be user:password, as in the server's PREFECT_SERVER_API_AUTH_STRING (on a cluster the Secret "
            "pollen-prefect, key auth-string)"
        )
    if status == httpx.codes.NOT_FOUND:
        return f"the server at {shown} does not know {response.request.url.path}: does PREFECT_API_URL end with /api?"
    return f"the Prefect server at {shown}: {refusal(response)}"


def _reasons(response: httpx.Response) -> Iterator[str]:
    """Yield the reasons in an error reply, without the parts that repeat the request."""
    try:
        reply: Any = response.json()
    except ValueError:
        return
    if not isinstance(reply, dict):
        return
    for name in ("detail", "exception_message"):
        if isinstance(reply.get(name), str):
            yield reply[name].strip().rstrip(".")
    for each in reply.get("exception_detail") or ():
        if isinstance(each, dict) and isinstance(each.get("msg"), str):
            yield f"{'.'.join(map(str, each.get('loc', ())))}: {each['msg']}"
