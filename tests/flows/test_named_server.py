"""The story on an S3 server that a person names: what other servers do otherwise shows only there.

Set ``POLLEN_TEST_S3_ENDPOINT`` (``https://...``), ``POLLEN_TEST_S3_ACCESS_KEY`` and
``POLLEN_TEST_S3_SECRET_KEY``, and for a server of one's own authority ``POLLEN_TEST_S3_CA``. The
tests make a bucket and delete it.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket
from pydantic import SecretStr

from pollen.errors import PollenError
from pollen.layout import annotated_key
from services.embedded import EmbeddedPrefect
from tasks.detection import records
from tasks.detection.summary import Outcome
from tasks.storage import buckets
from tasks.storage.buckets import BucketStore
from tasks.storage.store import Location, open_store
from tests.support.pictures import pages, picture
from tests.support.runs import TABLES, count, rows, tables, tiles_counted

_VARIABLE = "POLLEN_TEST_S3_"
_NAMES = (
    "two words/my picture.png",
    "žluť/pyl ☼.png",
    "a+b.png",
    "100%.png",
    "%41.png",
    'it\'s "quoted".png',
    "hash#page=1.png",
    "query?x=1&y=2.png",
    "back\\slash;semicolon, comma.png",
    "deep/er/and/deep/er/still/a.jpg",
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The named server, in the environment."""
    endpoint = os.environ.get(f"{_VARIABLE}ENDPOINT")
    if not endpoint:
        pytest.skip(f"no S3 server is named: set {_VARIABLE}ENDPOINT, _ACCESS_KEY and _SECRET_KEY")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", os.environ[f"{_VARIABLE}ACCESS_KEY"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", os.environ[f"{_VARIABLE}SECRET_KEY"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if authority := os.environ.get(f"{_VARIABLE}CA"):
        monkeypatch.setenv("AWS_CA_BUNDLE", authority)


@pytest.fixture
def bucket(environment: None) -> Iterator[str]:
    """A bucket of this test's own."""
    name = f"pollen-test-{uuid4().hex[:12]}"
    store = store_of(name)
    store.client.create_bucket(Bucket=name)
    yield name
    store.delete([entry.key for entry in store.list()])
    store.client.delete_bucket(Bucket=name)


def store_of(bucket: str, prefix: str = "") -> BucketStore:
    store = open_store(Location(bucket=bucket, prefix=prefix))
    assert isinstance(store, BucketStore)
    return store


def test_the_whole_story(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MERGE_FROM_FILES", 3)
    source, output = Location(bucket=bucket, prefix="in +%ž"), Location(bucket=bucket, prefix="out")
    pictures = store_of(bucket, source.prefix)
    for seed, name in enumerate(_NAMES):
        pictures.write(name, picture(seed, Path(name).suffix))
    pictures.write("stack.tif", pages(2))
    pictures.write("empty.png", b"")
    summary = count(source, output, batch_images=4)
    assert summary.outcome is Outcome.WITH_FAILURES

    results = store_of(bucket, "out")
    written = {entry.key: entry.version for entry in results.list()}
    found = rows(results.read(TABLES[0]))
    counted = {*_NAMES, "stack.tif#page=1", "stack.tif#page=2"}
    assert set(found) == counted | {"empty.png"}
    assert {annotated_key(name) for name in counted} <= written.keys()
    assert len([key for key in written if key.endswith(".parquet")]) == 2  # merged, parts deleted

    with tiles_counted() as tiles:
        assert count(source, output).outcome is Outcome.NOTHING_NEW
    assert tiles() == 0
    assert {entry.key: entry.version for entry in results.list()} == written
    count(source, tmp_path)  # the same pictures into a folder: the same bytes
    assert tables(tmp_path) == {name: results.read(name) for name in TABLES}


def test_of_several_writers_exactly_one_creates(bucket: str) -> None:
    store = store_of(bucket)
    for race in range(5):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda n, key=str(race): store.create(key, b"%d" % n), range(8)))
        assert made.count(True) == 1
        assert store.read(str(race)) == b"%d" % made.index(True)


def test_large_files_go_in_parts(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "ONE_REQUEST_BYTES", 6 * 1024 * 1024)
    data = os.urandom(17 * 1024 * 1024)
    (tmp_path / "large").write_bytes(data)
    store = store_of(bucket)
    store.write_file("large", tmp_path / "large")
    assert store.read("large") == data


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(variable, "nobody")
        store = store_of(bucket)
    with pytest.raises(PollenError, match="refused access"):
        store.check()


def test_a_certificate_that_nobody_vouches_for_is_told(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "AWS_CA_BUNDLE" not in os.environ:
        pytest.skip(f"no authority is named ({_VARIABLE}CA): the server needs none")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_CA_BUNDLE")
        store = store_of(bucket)
    with pytest.raises(PollenError, match=r"certificate .* is not trusted"):
        store.check()


def test_a_missing_bucket_is_told(environment: None) -> None:
    with pytest.raises(PollenError, match="there is no bucket 'pollen-test-never-made'"):
        store_of("pollen-test-never-made").check()


def test_a_block_leads_there_alone(
    bucket: str, prefect_server: EmbeddedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(bucket, "root/detect_images").write("a.png", picture(0))
    authority = os.environ.get("AWS_CA_BUNDLE")
    S3Bucket(
        bucket_name=bucket,
        bucket_folder="root",
        credentials=AwsCredentials(
            aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SecretStr(os.environ["AWS_SECRET_ACCESS_KEY"]),
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters(
                endpoint_url=os.environ["AWS_ENDPOINT_URL"],
                verify_cert_path=Path(authority) if authority else None,
            ),
        ),
    ).save("named", overwrite=True)
    with monkeypatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(variable)
        root = Location(block="named")
        assert count(root.below("detect_images"), root).outcome is Outcome.COMPLETED
        assert list(rows(open_store(root).read(TABLES[0]))) == ["a.png"]
