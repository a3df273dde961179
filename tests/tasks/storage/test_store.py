"""Stores: whole writes, names, downloads that break off, and which errors may pass."""

import errno
import io
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.loaders import Loader
from botocore.session import ComponentLocator
from urllib3.response import HTTPResponse

from pollen.errors import PollenError
from services.embedded import EmbeddedS3
from tasks.faults import (
    NotFoundError,
    StorageError,
    UnreachableError,
    UnusableNameError,
    storage_errors,
)
from tasks.storage.buckets import BucketStore
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location, open_store
from tests.support.pictures import picture
from tests.support.runs import bucket_folder, count, rows, upload
from tests.support.wire import tapped


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def bucket(s3_server: EmbeddedS3, request: pytest.FixtureRequest) -> Iterator[BucketStore]:
    with s3_server.active():
        store = open_store(bucket_folder(f"storage/{request.node.name}"))
        assert isinstance(store, BucketStore)
        yield store


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_what_was_written_is_listed_read_and_deleted(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store: FolderStore | BucketStore = request.getfixturevalue(kind)
    assert list(store.list()) == []
    assert not store.exists("a/b.txt")
    with pytest.raises(NotFoundError, match=r"a/b.txt does not exist \(any more\)"):
        store.read("a/b.txt")
    store.write("a/b.txt", b"one")
    (tmp_path / "file").write_bytes(b"two!")
    store.write_file("a/c +%ž.txt", tmp_path / "file")
    assert {(entry.key, entry.size) for entry in store.list("a/")} == {
        ("a/b.txt", 3),
        ("a/c +%ž.txt", 4),
    }
    assert store.read("a/c +%ž.txt") == b"two!"
    before = {entry.key: entry.version for entry in store.list()}
    assert store.version("a/b.txt") == before["a/b.txt"]
    store.write("a/b.txt", b"other")
    after = {entry.key: entry.version for entry in store.list()}
    assert after["a/b.txt"] != before["a/b.txt"]
    assert after["a/c +%ž.txt"] == before["a/c +%ž.txt"]
    store.delete(["a/b.txt", "a/b.txt", "never there"])
    assert not store.exists("a/b.txt")


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.txt", b"old")
    write_bytes = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write_bytes(self, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"a.txt can't be written \(No space .*is the disk full"):
        folder.write("a.txt", b"new")
    monkeypatch.undo()
    assert [path.name for path in folder.root.iterdir()] == ["a.txt"]
    assert folder.read("a.txt") == b"old"


@pytest.mark.parametrize("key", ["../out.txt", "a/../../out.txt", "/etc/out.txt"])
def test_keys_that_lead_out_of_a_folder_are_refused(folder: FolderStore, key: str) -> None:
    with pytest.raises(UnusableNameError, match="leads out of"):
        folder.write(key, b"")
    with pytest.raises(UnusableNameError, match="leads out of"):
        folder.delete([key])


@pytest.mark.parametrize("key", ["x" * 300, "a.txt/below.txt"])
def test_names_a_file_system_can_not_hold_are_told_as_such(folder: FolderStore, key: str) -> None:
    folder.write("a.txt", b"")
    with pytest.raises(UnusableNameError, match="rename the picture"):
        folder.write(key, b"")
    assert [path.name for path in folder.root.iterdir()] == ["a.txt"]


def test_names_of_another_encoding_are_failed_rows(tmp_path: Path) -> None:
    source = tmp_path / "pictures"
    source.mkdir()
    (source / "good.png").write_bytes(picture(0))
    try:
        Path(os.fsdecode(os.fsencode(source) + b"/p\xfdl.png")).write_bytes(picture(1))
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    count(source, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert found["good.png"]["status"] == "ok"
    assert "is not UTF-8 text: rename the picture" in found["p\\xfdl.png"]["reason"]
    assert count(source, tmp_path / "out").counted_now == 0


def cut_short(store: BucketStore, times: int) -> list[str]:
    """Let the next downloads break off after one byte; the addresses that were asked."""
    asked: list[str] = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        asked.append(str(request.url))
        if len(asked) > times:
            return None
        headers = HTTPHeaders()
        headers["Content-Length"] = "9"
        headers["ETag"] = '"x"'
        length = {"Content-Length": "9"}
        raw = HTTPResponse(io.BytesIO(b"h"), status=200, headers=length, preload_content=False)
        return AWSResponse(str(request.url), 200, headers, raw)

    events: Any = store.client.meta.events  # its stubs know of handlers without an answer only
    events.register("before-send.s3.GetObject", answer)
    return asked


def test_a_download_that_breaks_off_is_started_again(bucket: BucketStore) -> None:
    bucket.write("a.txt", b"half full")
    asked = cut_short(bucket, 2)
    assert bucket.read("a.txt") == b"half full"
    assert len(asked) == 3


def test_a_download_that_always_breaks_off_may_pass(bucket: BucketStore) -> None:
    bucket.write("a.txt", b"half full")
    cut_short(bucket, 10**6)
    with pytest.raises(UnreachableError, match="broke off") as error:
        bucket.read("a.txt")
    assert error.value.heals


@pytest.fixture
def store(request: pytest.FixtureRequest) -> FolderStore | BucketStore:
    """The store that a test is parametrised with."""
    chosen: FolderStore | BucketStore = request.getfixturevalue(request.param)
    return chosen


both_stores = pytest.mark.parametrize("store", ["folder", "bucket"], indirect=True)


@both_stores
def test_what_is_there_is_not_created_again(store: FolderStore | BucketStore) -> None:
    assert store.create("deep/a.json", b"first", "application/json")
    assert not store.create("deep/a.json", b"second")
    assert store.read("deep/a.json") == b"first"
    assert [entry.key for entry in store.list()] == ["deep/a.json"]


@both_stores
def test_of_eight_writers_at_once_exactly_one_wins(store: FolderStore | BucketStore) -> None:
    for race in range(2):
        key, start = f"races/{race}.json", threading.Barrier(8)

        def write(name: bytes, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait()
            return store.create(key, name * 1000)

        names = [b"%d" % number for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, names))
        assert won.count(True) == 1
        assert store.read(key) == names[won.index(True)] * 1000
    assert len(list(store.list())) == 2


def test_creating_is_one_request_however_large(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = tapped(monkeypatch)
    with s3_server.active():
        large = open_store(bucket_folder("storage/large"))
        assert large.create("a", bytes(2 * 1024 * 1024))
        assert dict(wire.seen) == {"PutObject": 1}
        assert not large.create("a", b"")
        assert wire.seen["PutObject"] == 2


def test_a_lost_reply_is_no_lost_race(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server wrote the object, its answer got lost, and boto asked again: 412 for our own write."""
    wire = tapped(monkeypatch, boto_attempts=2)

    def arrived(operation: str, _url: str) -> None:
        if operation == "PutObject" and not wire.seen["PutObject"]:
            upload(s3_server, "storage/lost", {"a": b"ours"})

    wire.before = arrived
    wire.fail("PutObject", 503, times=1)
    with s3_server.active():
        store = open_store(bucket_folder("storage/lost"))
        assert store.create("a", b"ours")
        assert wire.seen["PutObject"] == 2
        assert not store.create("a", b"theirs")
        assert store.read("a") == b"ours"


def test_a_conflict_that_decided_nothing_may_pass(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = tapped(monkeypatch)
    wire.fail("PutObject", 409, times=1)
    with s3_server.active():
        store = open_store(bucket_folder("storage/conflict"))
        with pytest.raises(StorageError, match="409 ConditionalRequestConflict") as error:
            store.create("a", b"ours")
        assert error.value.heals
        assert store.create("a", b"ours")


def refuse_links(_source: object, _target: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_creating_works_where_files_have_one_name_only(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    assert folder.create("a", b"first")
    assert not folder.create("a", b"second")
    assert [path.name for path in folder.root.iterdir()] == ["a"]
    assert folder.read("a") == b"first"


def test_a_full_disk_creates_nothing(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("other", b"")

    def full(_path: Path, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="is the disk full"):
        folder.create("a", b"first")
    assert [path.name for path in folder.root.iterdir()] == ["other"]


URL = "http://127.0.0.1:9/pollen"
UNTRUSTED = ssl.SSLCertVerificationError("certificate verify failed: CERTIFICATE_VERIFY_FAILED")

NO_CERTIFICATE = ssl.SSLError("[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found")
NO_TLS = ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")


def answered(status: int, code: str) -> boto.ClientError:
    """What boto makes of a server's refusal; Ceph sends no message."""
    answer: Any = {
        "Error": {"Code": code, "Message": None},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return boto.ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("error", "heals", "words"),
    [
        (answered(503, "SlowDown"), True, "try again later"),
        (answered(500, "InternalError"), True, "try again later"),
        (answered(429, "TooManyRequests"), True, "try again later"),
        (answered(400, "RequestTimeout"), True, "try again later"),
        (answered(409, "OperationAborted"), True, "try again later"),
        (answered(412, "PreconditionFailed"), False, "is there already"),
        (answered(403, "AccessDenied"), False, "check the access key"),
        (answered(403, "InvalidAccessKeyId"), False, "check the access key"),
        (answered(400, "ExpiredToken"), False, "check the access key"),
        (answered(404, "NoSuchBucket"), False, "create the bucket"),
        (answered(404, "NoSuchKey"), False, "does not exist"),
        (answered(404, "404"), False, "does not exist"),
        (answered(400, "KeyTooLongError"), False, "rename the picture"),
        (answered(400, "InvalidRequest"), False, "400 InvalidRequest"),
        (boto.EndpointConnectionError(endpoint_url=URL), True, "AWS_ENDPOINT_URL"),
        (boto.ConnectTimeoutError(endpoint_url=URL), True, "AWS_ENDPOINT_URL"),
        (boto.ReadTimeoutError(endpoint_url=URL), True, "AWS_ENDPOINT_URL"),
        (boto.ConnectionClosedError(endpoint_url=URL), True, "AWS_ENDPOINT_URL"),
        (boto.ResponseStreamingError(error="cut"), True, "broke off"),
        (boto.SSLError(endpoint_url=URL, error=UNTRUSTED), False, "set AWS_CA_BUNDLE"),
        (boto.SSLError(endpoint_url=URL, error=ssl.SSLEOFError("cut")), True, "broke off"),
        (boto.SSLError(endpoint_url=URL, error=NO_CERTIFICATE), False, "in PEM form"),
        (boto.SSLError(endpoint_url=URL, error=NO_TLS), False, "does not speak TLS"),
        (boto.NoCredentialsError(), False, "set AWS_ACCESS_KEY_ID"),
        (boto.ParamValidationError(report="bad"), False, "not set up properly"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Exception) else None,
)
def test_what_passes_is_told_from_what_does_not(error: Exception, heals: bool, words: str) -> None:
    with pytest.raises(StorageError, match=words) as told, storage_errors("s3://pollen/a.png"):
        raise error
    assert told.value.heals is heals
    assert "s3://pollen/a.png" in str(told.value)
    assert told.value.__cause__ is error


def test_a_silent_address_is_told_after_botos_own_tries(bucket: BucketStore) -> None:
    def silent(**_: object) -> None:
        raise boto.ConnectTimeoutError(endpoint_url=URL)

    bucket.client.meta.events.register("before-call.s3.ListObjectsV2", silent)
    with pytest.raises(UnreachableError) as error:
        bucket.check()
    assert not error.value.heals


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://pollen/2026/", "s3://pollen/2026"),
        ("s3://pollen", "s3://pollen"),
        ("pictures", "pictures"),
        ("s3:/pollen", "s3:/pollen"),
    ],
)
def test_addresses_are_read_and_told(text: str, address: str) -> None:
    assert Location.parse(text).address == address


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(PollenError, match="expected s3://bucket/prefix"):
        Location.parse("s3:///in")


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("file.txt", "is a file, expected a folder: check the path"),
        ("file.txt/below", "lies below a file, expected a folder: check the path"),
        ("x" * 300, "is too long a path: check the path"),
    ],
)
def test_a_path_that_can_be_no_folder_is_told_once_for_all(
    tmp_path: Path, below: str, words: str
) -> None:
    (tmp_path / "file.txt").write_text("no folder")
    store = FolderStore(tmp_path / below)
    for use in (
        lambda: list(store.list("versions/")),
        store.check,
        lambda: store.write("a/b.txt", b""),
        lambda: store.create("a/b.txt", b""),
    ):
        with pytest.raises(StorageError) as told:
            use()
        assert str(told.value) == f"{store.root} {words}"
    assert not store.exists("a.txt")
    with pytest.raises(NotFoundError):
        store.read("a.txt")


def test_descriptions_of_aws_are_also_read_from_the_configured_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is shared, but not by clients whose folders differ."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    def reader() -> Loader:
        asked: list[Loader] = []
        registered = ComponentLocator.register_component

        def note(self: ComponentLocator, name: str, component: object) -> None:
            if isinstance(component, Loader):
                asked.append(component)
            registered(self, name, component)

        with monkeypatch.context() as patched:
            patched.setattr(ComponentLocator, "register_component", note)
            open_store(Location(bucket="pictures"))
        return asked[-1]

    monkeypatch.delenv("AWS_DATA_PATH", raising=False)
    usual = reader()
    assert reader() is usual
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    other = reader()
    assert str(tmp_path) in other.search_paths
    assert str(tmp_path) not in usual.search_paths
