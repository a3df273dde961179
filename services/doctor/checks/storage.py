"""S3, looked at step by step as a run would use it: name, port, certificate, keys, bucket, rights, clock."""

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
from tasks.faults import StorageError, explained
from tasks.storage.buckets import BucketStore
from tasks.storage.store import Location, open_store

#: The doctor does not wait as long as a run does, and tries once: it is to see what goes wrong.
HASTY: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": 8,
    "retries": {"total_max_attempts": 1, "mode": "standard"},
}
#: S3 servers refuse requests whose time differs by more than this from theirs.
SKEW_REFUSED_SECONDS: Final = 15 * 60
SKEW_WARNED_SECONDS: Final = 60
#: Folders named where a root holds nothing.
NEAR_FOLDERS: Final = 8

_ABOUT = About(Category.STORAGE)


@dataclass(frozen=True)
class Answered:
    """What came of a listing.

    Attributes:
        date: What its clock said; None where it did not say.
        error: Why there is no listing; None where there is one.
        code: The server's own word for that, or the kind of fault where it said nothing.
        page: What it listed.
    """

    date: datetime | None
    error: StorageError | None
    code: str
    page: dict[str, Any]


def check_storage(place: Location, *others: Location) -> Iterator[Finding]:
    """Go through everything between here and an object; what depends on a failed step is left out.

    Args:
        place: The folder in the bucket that is the root.
        others: More roots in the same bucket.

    Raises:
        PollenError: The block or the environment can't be used.
    """
    store = open_store(place, HASTY)
    if not isinstance(store, BucketStore):
        yield _ABOUT.info(f"{place.address} is a folder: there is no S3 server to look at")
        return
    address = str(store.client.meta.endpoint_url)
    steps = list(_network(address))
    yield from steps
    if any(step.level is Level.ERROR for step in steps):
        yield _skipped(store.address)
        return
    answered = ask(store)
    yield from _clock(answered)
    if answered.error is not None:
        yield _refusal(answered, answered.error, store)
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
    """What differs from one root of a bucket to another."""
    store = open_store(place, HASTY)
    assert isinstance(store, BucketStore)
    answered = ask(store)
    if answered.error is not None:
        yield _refusal(answered, answered.error, store)
        return
    yield from _inputs(store, answered.page)
    yield from probe(store)


def _skipped(address: str) -> Finding:
    return _ABOUT.info(
        f"not looked at for that reason: the bucket's content, reading and writing ({address})"
    )


def _network(address: str) -> Iterator[Finding]:
    """Name and port of a server, unless a proxy stands between."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxies = urllib.request.getproxies()
    if parts.scheme in proxies and not urllib.request.proxy_bypass(host):
        yield _ABOUT.info(
            f"{host} is reached through the proxy {proxies[parts.scheme]}",
            resolution="where it should be reached directly, name it in NO_PROXY",
        )
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield _ABOUT.error(
            f"the name of the S3 server, {host}, is not known here",
            str(error),
            "check the spelling of the address (AWS_ENDPOINT_URL, the block's endpoint_url) and this machine's DNS; "
            "inside a cluster, whether the name is known there",
        )
        return
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            pass
    except OSError as error:
        yield _ABOUT.error(
            f"the S3 server does not answer at {host}, port {port}",
            str(error),
            "check the port, that the server runs, and firewalls or network policies in between",
        )
        return
    yield _ABOUT.ok(f"{host}, port {port}, answers", f"resolved to {found[0][4][0]}")


def _plain(address: str) -> Finding:
    host = urlsplit(address).hostname or ""
    if _is_local(host):
        return _ABOUT.ok(f"{host} is this machine: plain http is no risk")
    return _ABOUT.warning(
        f"{address} is plain http: everything but the secret key can be read and changed on the way",
        resolution="use the server's https address, if it has one",
    )


def _is_local(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def ask(store: BucketStore) -> Answered:
    """List the top of a root, and look at what comes with the answer."""
    try:
        with explained(store.address):
            page = store.client.list_objects_v2(
                Bucket=store.bucket, Prefix=store.key(""), Delimiter="/", MaxKeys=1000
            )
    except StorageError as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            return Answered(None, error, type(cause).__name__, {})
        code = str(cause.response.get("Error", {}).get("Code") or "")
        return Answered(_date(cause.response), error, code, {})
    return Answered(_date(page), None, "", dict(page))


def _date(response: Any) -> datetime | None:  # noqa: ANN401  (boto types answer by answer)
    """The server's clock when it answered."""
    said = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        at = parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _clock(answered: Answered) -> Iterator[Finding]:
    if answered.date is None:
        if answered.error is None:
            yield _ABOUT.info("the S3 server does not say its time: clocks were not compared")
        return
    skew = (datetime.now(UTC) - answered.date).total_seconds()
    told = f"this clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the S3 server's"
    remedy = "set this machine's clock by NTP (timedatectl set-ntp true), or have the server's set"
    if abs(skew) > SKEW_REFUSED_SECONDS or answered.code == "RequestTimeTooSkewed":
        yield _ABOUT.error(told, "S3 refuses requests that are 15 minutes off", remedy)
    elif abs(skew) > SKEW_WARNED_SECONDS:
        yield _ABOUT.warning(told, "from 15 minutes on, S3 refuses requests", remedy)
    else:
        yield _ABOUT.ok("this clock and the S3 server's agree")


#: What a person does about a refusal, by the server's word for it.
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


def _refusal(answered: Answered, error: StorageError, store: BucketStore) -> Finding:
    if answered.code == "NoSuchBucket":
        summary = f"there is no bucket '{store.bucket}' on {store.client.meta.endpoint_url}"
        return _ABOUT.error(summary, resolution=_REMEDIES["NoSuchBucket"])
    known = _REMEDIES.get(answered.code)
    if known is not None:
        said = f"the S3 server gave nothing from {store.address} ({answered.code})"
        return _ABOUT.error(said, str(error.__cause__), known)
    summary, colon, remedy = str(error).rpartition(": ")
    return _ABOUT.error(summary if colon else str(error), resolution=remedy if colon else "")


def _checksums(store: BucketStore, address: str) -> Iterator[Finding]:
    """Ceph over HTTPS refuses uploads with the checksums that newer boto3 sends by default."""
    config: Any = store.client.meta.config
    mode = config.request_checksum_calculation
    if mode == "when_required" or (urlsplit(address).hostname or "").endswith(".amazonaws.com"):
        yield _ABOUT.ok(f"checksums are sent {str(mode).replace('_', ' ')}")
        return
    yield _ABOUT.warning(
        f"checksums are sent {str(mode).replace('_', ' ')}: some servers (Ceph over HTTPS) refuse every upload then",
        resolution="take request_checksum_calculation out of the block's client config, and "
        "AWS_REQUEST_CHECKSUM_CALCULATION out of the environment",
    )


def _inputs(store: BucketStore, page: dict[str, Any]) -> Iterator[Finding]:
    """Whether there are pictures where runs look for them."""
    with explained(store.place(INPUTS)):
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
            f"{store.address} holds {misnamed[0]}, but runs look into {INPUTS}",
            resolution=f"rename the folder to {INPUTS}",
        )
    elif near or not store.prefix:
        there = f"there are: {', '.join(near[:NEAR_FOLDERS])}" if near else "the bucket is empty"
        yield _ABOUT.info(
            f"no pictures yet in {store.place(INPUTS)}",
            there,
            f"upload some below {store.place(INPUTS)}",
        )
    else:
        yield _empty_root(store)


def _empty_root(store: BucketStore) -> Finding:
    """A root without anything: perhaps its name is misspelt."""
    parent = store.prefix.rpartition("/")[0]
    start = f"{parent}/" if parent else ""
    with explained(f"s3://{store.bucket}/{start}"):
        page = store.client.list_objects_v2(
            Bucket=store.bucket, Prefix=start, Delimiter="/", MaxKeys=1000
        )
    beside = [each["Prefix"] for each in page.get("CommonPrefixes", ())]
    there = ", ".join(beside[:NEAR_FOLDERS]) or "nothing"
    return _ABOUT.warning(
        f"there is nothing at all in {store.address}",
        f"beside it: {there}",
        "where this is a new root, upload pictures below detect_images/; else correct the folder (storage.folder and "
        "prefixes of deployments/site.yaml, then `pollen setup`)",
    )


def probe(store: BucketStore) -> list[Finding]:
    """Write, read, write with a condition, and delete a small object of a name that is nobody else's.

    No generator: what it wrote is taken away whether or not anybody still waits for its findings.
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
                    "an object was read back with other content than it was written with",
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
    """Promotions rely on it: of two at once exactly one may win."""
    try:
        overwritten = store.create(key, b"overwritten by pollen doctor", "text/plain")
    except StorageError as error:
        return _ABOUT.error(
            "the S3 server refuses writes on condition (If-None-Match)",
            str(error),
            "promoting models needs them: update the server, or use another one",
        )
    if overwritten:
        return _ABOUT.error(
            "the S3 server ignores conditions on writes (If-None-Match): two promotions at once could overwrite one "
            "another",
            resolution="update the S3 server; until then let only one person promote models",
        )
    return _ABOUT.ok("writes on condition (If-None-Match) are honoured")


def _deleted(store: BucketStore, key: str) -> Finding:
    """Take away what was written; without the right to delete, runs work but leave small files."""
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
    """Where boto3 finds keys outside of blocks, in words; None where it finds none."""
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
