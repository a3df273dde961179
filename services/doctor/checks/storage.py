"""Check S3 step by step, as a run would use it: name, port, certificate, keys, bucket, rights, clock."""

import os
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from botocore.exceptions import ClientError

from pollen.errors import PollenError
from pollen.layout import INPUTS, RESULTS
from services.doctor.checking import CONNECT_SECONDS, About
from services.doctor.finding import Category, Finding, Level
from tasks.faults import StorageError, storage_errors
from tasks.storage.buckets import BucketStore
from tasks.storage.store import Location, open_store

#: Client settings of the doctor: it waits less than a run does and tries once, to see the first error.
HASTY: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": 8,
    "retries": {"total_max_attempts": 1, "mode": "standard"},
}
#: S3 servers refuse requests whose time differs from theirs by more than this.
SKEW_REFUSED_SECONDS: Final = 15 * 60
SKEW_WARNED_SECONDS: Final = 60
#: Folders that are listed if a root holds nothing.
NEAR_FOLDERS: Final = 8

_ABOUT = About(Category.STORAGE)


@dataclass(frozen=True)
class Answer:
    """The answer to a request for a listing.

    Attributes:
        date: Time of the server; None if the answer has none.
        error: Reason why there is no listing; None if there is one.
        code: Error code of the server, or the kind of error if it sent none.
        page: The listing.
    """

    date: datetime | None
    error: StorageError | None
    code: str
    page: dict[str, Any]


def check_storage(place: Location, *others: Location) -> Iterator[Finding]:
    """Check each step between here and an object; skip what depends on a failed step.

    Args:
        place: The root.
        others: More roots in the same bucket.

    Raises:
        PollenError: If the block or the environment can't be used.
    """
    store = open_store(place, HASTY)
    if not isinstance(store, BucketStore):
        yield _ABOUT.info(f"{place.address} is a folder: there is no S3 server to check")
        return
    address = str(store.client.meta.endpoint_url)
    steps = list(_network(address))
    yield from steps
    if any(step.level is Level.ERROR for step in steps):
        yield _skipped(store.address)
        return
    answer = ask(store)
    yield from _clock(answer)
    if answer.error is not None:
        yield _refusal(answer, answer.error, store)
        yield _skipped(store.address)
        return
    if address.startswith("https:"):
        yield _ABOUT.ok(f"the certificate of {urlsplit(address).hostname} is trusted")
    else:
        yield _plain(address)
    yield _ABOUT.ok(f"bucket '{store.bucket}' answers and accepts the keys")
    yield from _checksums(store, address)
    for root in (place, *others):
        yield from _root(root)


def _root(place: Location) -> Iterator[Finding]:
    """Check what differs from one root of a bucket to another."""
    store = open_store(place, HASTY)
    assert isinstance(store, BucketStore)
    answer = ask(store)
    if answer.error is not None:
        yield _refusal(answer, answer.error, store)
        return
    yield from _inputs(store, answer.page)
    yield from probe(store)


def _skipped(address: str) -> Finding:
    return _ABOUT.info(
        f"not checked for that reason: the bucket's content, reading and writing ({address})"
    )


def _network(address: str) -> Iterator[Finding]:
    """Check the name and port of the server, unless a proxy is used."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxies = urllib.request.getproxies()
    if parts.scheme in proxies and not urllib.request.proxy_bypass(host):
        yield _ABOUT.info(
            f"{host} is reached through the proxy {proxies[parts.scheme]}",
            resolution="to reach it directly, add it to NO_PROXY",
        )
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield _ABOUT.error(
            f"the name of the S3 server, {host}, can't be resolved here",
            str(error),
            "check the spelling of the address (AWS_ENDPOINT_URL, the block's endpoint_url) and this machine's DNS; "
            "inside a cluster, also whether the name can be resolved there",
        )
        return
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            pass
    except OSError as error:
        yield _ABOUT.error(
            f"the S3 server does not answer at {host}, port {port}",
            str(error),
            "check the port, whether the server runs, and firewalls or network policies in between",
        )
        return
    yield _ABOUT.ok(f"{host}, port {port}, answers", f"resolved to {found[0][4][0]}")


def _plain(address: str) -> Finding:
    host = urlsplit(address).hostname or ""
    if _is_local(host):
        return _ABOUT.ok(f"{host} is this machine: plain http is safe")
    return _ABOUT.warning(
        f"{address} is plain http: everything except the secret key can be read and changed in transit",
        resolution="use the server's https address, if it has one",
    )


def _is_local(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def ask(store: BucketStore) -> Answer:
    """List the top of a root; keep the server's time and error code."""
    try:
        with storage_errors(store.address):
            page = store.client.list_objects_v2(
                Bucket=store.bucket, Prefix=store.key(""), Delimiter="/", MaxKeys=1000
            )
    except StorageError as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            return Answer(None, error, type(cause).__name__, {})
        code = str(cause.response.get("Error", {}).get("Code") or "")
        return Answer(_date(cause.response), error, code, {})
    return Answer(_date(page), None, "", dict(page))


def _date(response: Any) -> datetime | None:  # noqa: ANN401  (boto types answer by answer)
    """Return the time of the server when it answered."""
    text = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _clock(answer: Answer) -> Iterator[Finding]:
    if answer.date is None:
        if answer.error is None:
            yield _ABOUT.info("the S3 server sends no time: clocks were not compared")
        return
    skew = (datetime.now(UTC) - answer.date).total_seconds()
    summary = (
        f"this clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the S3 server's"
    )
    remedy = (
        "set this machine's clock by NTP (timedatectl set-ntp true), or have the server's clock set"
    )
    if abs(skew) > SKEW_REFUSED_SECONDS or answer.code == "RequestTimeTooSkewed":
        yield _ABOUT.error(summary, "S3 refuses requests that are 15 minutes off", remedy)
    elif abs(skew) > SKEW_WARNED_SECONDS:
        yield _ABOUT.warning(summary, "from 15 minutes on, S3 refuses requests", remedy)
    else:
        yield _ABOUT.ok("this clock and the S3 server's agree")


#: Remedies, by the error code of the server.
_REMEDIES: Final = {
    "InvalidAccessKeyId": "the server does not know this access key: check AWS_ACCESS_KEY_ID (in a cluster: the "
    "Secret pollen-s3), that it belongs to this server, and that it was not revoked",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key: check AWS_SECRET_ACCESS_KEY (in a "
    "cluster: the Secret pollen-s3) for a missing character or a line break at its end",
    "AccessDenied": "the keys are known but may not list this bucket: ask its owner for the right to list, read, "
    "write and delete there, and check bucket and folder",
    "NoSuchBucket": "check the bucket's name (storage.bucket of deployments/site.yaml, the block) and the address of "
    "the server, or create the bucket",
    "RequestTimeTooSkewed": "set the clock first",
    "ConnectionClosedError": "check the address: does this port speak https, or belong to another kind of server?",
    "ReadTimeoutError": "check the address, and whether the server is overloaded",
}


def _refusal(answer: Answer, error: StorageError, store: BucketStore) -> Finding:
    if answer.code == "NoSuchBucket":
        summary = f"there is no bucket '{store.bucket}' on {store.client.meta.endpoint_url}"
        return _ABOUT.error(summary, resolution=_REMEDIES["NoSuchBucket"])
    known = _REMEDIES.get(answer.code)
    if known is not None:
        summary = f"the S3 server refuses to list {store.address} ({answer.code})"
        return _ABOUT.error(summary, str(error.__cause__), known)
    summary, colon, remedy = str(error).rpartition(": ")
    return _ABOUT.error(summary if colon else str(error), resolution=remedy if colon else "")


def _checksums(store: BucketStore, address: str) -> Iterator[Finding]:
    """Report the checksums that newer boto3 sends by default: Ceph over HTTPS refuses such uploads."""
    config: Any = store.client.meta.config
    mode = config.request_checksum_calculation
    if mode == "when_required" or (urlsplit(address).hostname or "").endswith(".amazonaws.com"):
        yield _ABOUT.ok(f"checksums are sent {str(mode).replace('_', ' ')}")
        return
    yield _ABOUT.warning(
        f"checksums are sent {str(mode).replace('_', ' ')}: some servers (Ceph over HTTPS) then refuse every upload",
        resolution="remove request_checksum_calculation from the block's client config, and "
        "AWS_REQUEST_CHECKSUM_CALCULATION from the environment",
    )


def _inputs(store: BucketStore, page: dict[str, Any]) -> Iterator[Finding]:
    """Check that there are pictures in the folder that runs read."""
    with storage_errors(store.place(INPUTS)):
        inputs = store.client.list_objects_v2(
            Bucket=store.bucket, Prefix=store.key(INPUTS), MaxKeys=1000
        )
    found = sum(not item["Key"].endswith("/") for item in inputs.get("Contents", ()))
    if found:
        more = " or more" if inputs.get("IsTruncated") else ""
        yield _ABOUT.ok(f"{store.place(INPUTS)} holds {found}{more} objects")
        return
    cut = len(store.key(""))
    near = [each["Prefix"][cut:] for each in page.get("CommonPrefixes", ())]
    misnamed = [
        name for name in near if name.lower().replace("-", "_") == INPUTS and name != INPUTS
    ]
    if misnamed:
        yield _ABOUT.warning(
            f"{store.address} holds {misnamed[0]}, but runs read {INPUTS}",
            resolution=f"rename the folder to {INPUTS}",
        )
    elif near or not store.prefix:
        there = f"folders: {', '.join(near[:NEAR_FOLDERS])}" if near else "the bucket is empty"
        yield _ABOUT.info(
            f"no pictures yet in {store.place(INPUTS)}",
            there,
            f"upload pictures to {store.place(INPUTS)}",
        )
    else:
        yield _empty_root(store)


def _empty_root(store: BucketStore) -> Finding:
    """Report a root that holds nothing: perhaps its name is misspelt."""
    parent = store.prefix.rpartition("/")[0]
    start = f"{parent}/" if parent else ""
    with storage_errors(f"s3://{store.bucket}/{start}"):
        page = store.client.list_objects_v2(
            Bucket=store.bucket, Prefix=start, Delimiter="/", MaxKeys=1000
        )
    beside = [each["Prefix"] for each in page.get("CommonPrefixes", ())]
    there = ", ".join(beside[:NEAR_FOLDERS]) or "nothing"
    return _ABOUT.warning(
        f"{store.address} is empty",
        f"next to it: {there}",
        "if this is a new root, upload pictures to detect_images/; else correct the folder (storage.folder and "
        "prefixes in deployments/site.yaml, then `pollen setup`)",
    )


def probe(store: BucketStore) -> list[Finding]:
    """Write, read, write with a condition, and delete a small object with a name of its own.

    It is not a generator, so that the object is deleted even if the findings are no longer awaited.
    """
    key = f"{RESULTS}doctor-{uuid4().hex}.txt"
    found: list[Finding] = []
    try:
        store.write(key, b"written by pollen doctor", "text/plain")
    except StorageError as error:
        return [_unusable("written", error, store)]
    try:
        if store.read(key) != b"written by pollen doctor":
            found.append(
                _ABOUT.error(
                    "an object was read back with different content than was written",
                    store.place(key),
                    "do not use this storage; tell its administrators",
                )
            )
        else:
            found.append(_ABOUT.ok(f"objects can be written and read in {store.place(RESULTS)}"))
        found.append(_conditional(store, key))
    except StorageError as error:
        found.append(_unusable("read", error, store))
    finally:
        found.append(_deleted(store, key))
    return found


def _unusable(what: str, error: StorageError, store: BucketStore) -> Finding:
    return _ABOUT.error(
        f"objects can't be {what} in {store.place(RESULTS)}",
        str(error),
        "ask the bucket's owner for the right to read, write and delete there",
    )


def _conditional(store: BucketStore, key: str) -> Finding:
    """Check conditional writes: promotions rely on them, so that of two at once exactly one wins."""
    try:
        overwritten = store.create(key, b"overwritten by pollen doctor", "text/plain")
    except StorageError as error:
        return _ABOUT.error(
            "the S3 server refuses conditional writes (If-None-Match)",
            str(error),
            "promoting models needs them: update the server, or use another one",
        )
    if overwritten:
        return _ABOUT.error(
            "the S3 server ignores conditions on writes (If-None-Match): two promotions at once could overwrite each "
            "other",
            resolution="update the S3 server; until then let only one person promote models",
        )
    return _ABOUT.ok("conditional writes (If-None-Match) work")


def _deleted(store: BucketStore, key: str) -> Finding:
    """Delete what was written; without the right to delete, runs work but leave small files."""
    try:
        store.delete([key])
    except PollenError as error:
        return _ABOUT.warning(
            f"objects can't be deleted in {store.place(RESULTS)}: {key} was left there",
            str(error),
            "ask the bucket's owner for the right to delete; without it record files are never merged",
        )
    return _ABOUT.ok(f"objects can be deleted in {store.place(RESULTS)}")


def credentials_source() -> str | None:
    """Describe where boto3 finds keys outside of blocks; return None if it finds none."""
    import boto3

    found = boto3.Session().get_credentials()
    if found is None:
        return None
    if found.method == "env":
        return "the environment (AWS_ACCESS_KEY_ID)"
    return {
        "shared-credentials-file": "the file ~/.aws/credentials",
        "config-file": "the file ~/.aws/config",
    }.get(found.method, f"boto3's '{found.method}'") + (
        f", profile {os.environ['AWS_PROFILE']}" if os.environ.get("AWS_PROFILE") else ""
    )
