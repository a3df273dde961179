"""The story between buckets, without Prefect: odd keys, bad moments, certificates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket
from pydantic import SecretStr

import tasks.stage
from pollen.errors import PollenError
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.detection.planning import list_inputs
from tasks.detection.summary import Outcome
from tasks.storage import store as storage
from tasks.storage.store import Location, open_store
from tests.support.pictures import picture
from tests.support.runs import (
    BUCKET,
    COUNTS,
    bucket_folder,
    bucket_tables,
    count,
    files,
    objects,
    rows,
    tiles_counted,
    upload,
)
from tests.support.tls import HttpsS3, make_certificate
from tests.support.wire import Wire, tapped

NAMES = (
    "two words/my picture.png",
    "žluť/pyl ☼.png",
    "a+b.png",
    "100%.png",
    "%41.png",
    'it\'s "quoted".png',
    "hash#page=1.png",
    "query?x=1&y=2.png",
    "deep/er/and/deep/er/still/a.png",
    "a.png",
    "a.jpg",
    "LOUD.PNG",
)


@pytest.fixture
def server(s3_server: EmbeddedS3) -> Iterator[EmbeddedS3]:
    """The server, in the environment."""
    with s3_server.active():
        yield s3_server


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.0)
    return tapped(monkeypatch)


def counts_of(server: EmbeddedS3, root: str) -> dict[str, dict[str, str]]:
    return rows(bucket_tables(server, root)[COUNTS])


def test_any_key_is_counted_under_its_own_name(server: EmbeddedS3, tmp_path: Path) -> None:
    pictures = {name: picture(seed, Path(name).suffix.lower()) for seed, name in enumerate(NAMES)}
    upload(server, "odd žluť/in", pictures)
    source, output = bucket_folder("odd žluť/in"), bucket_folder("odd žluť/out + %")
    count(source, output)
    found = counts_of(server, "odd žluť/out + %")
    assert sorted(found) == sorted(NAMES)
    assert len({row["image_sha256"] for row in found.values()}) == len(NAMES)
    stored = objects(server, "odd žluť/out + %")
    assert {f"detected_images/{name}.jpg" for name in NAMES} <= stored.keys()
    assert count(source, output).outcome is Outcome.NOTHING_NEW
    assert objects(server, "odd žluť/out + %") == stored

    count(source, tmp_path)  # and into a folder: the same pictures, so the same rows
    assert rows(tmp_path) == found


def test_hidden_objects_and_neighbours_of_a_similar_name_are_not_read(server: EmbeddedS3) -> None:
    upload(server, "cam1", {"a.png": picture(0), "._a.png": b"", ".cache/x.png": picture(2)})
    upload(server, "cam10", {"b.png": picture(1)})
    count(bucket_folder("cam1"), bucket_folder("cams"))
    assert list(counts_of(server, "cams")) == ["a.png"]


@pytest.mark.parametrize("output", ["inside", "inside/results"])
def test_results_inside_the_source_are_not_read_as_input(server: EmbeddedS3, output: str) -> None:
    source = bucket_folder(f"{output} source")
    upload(server, source.prefix, {"a.png": picture(0)})
    root = source if output == "inside" else source.below("results")
    count(source, root)
    assert len(objects(server, source.prefix)) > 5
    assert list_inputs(source, root)["key"].to_list() == ["a.png"]
    assert list_inputs(bucket_folder(f"{source.prefix}/"), root)["key"].to_list() == ["a.png"]


def test_an_upload_under_way_in_parts_is_no_input(server: EmbeddedS3) -> None:
    upload(server, "parts/in", {"a.png": picture(0)})
    key = "parts/in/b.png"
    client = server.client()
    started = client.create_multipart_upload(Bucket=BUCKET, Key=key)
    client.upload_part(
        Bucket=BUCKET, Key=key, PartNumber=1, UploadId=started["UploadId"], Body=picture(1)
    )
    count(bucket_folder("parts/in"), bucket_folder("parts/out"))
    assert list(counts_of(server, "parts/out")) == ["a.png"]


def test_a_picture_that_can_not_be_fetched_fails_alone_and_is_tried_again(
    server: EmbeddedS3, wire: Wire
) -> None:
    upload(server, "transient/in", {"a.png": picture(0), "b.png": picture(1), "c.png": b""})
    wire.fail("GetObject", 403, part="/in/b.png")
    source, output = bucket_folder("transient/in"), bucket_folder("transient/out")
    summary = count(source, output)
    assert wire.refused["GetObject"] == 1  # a refusal is not tried again in this run
    assert summary.outcome is Outcome.WITH_FAILURES
    assert "refused access" in counts_of(server, "transient/out")["b.png"]["reason"]

    wire.heal()
    with tiles_counted() as tiles:
        summary = count(source, output)
    assert tiles() == 1  # neither the counted one again, nor the empty one
    assert counts_of(server, "transient/out")["b.png"]["status"] == "ok"
    assert summary.failed["filename"].to_list() == ["c.png"]


@pytest.mark.parametrize(
    ("operation", "part"), [("GetObject", "/in/b.png"), ("PutObject", "b.png.jpg")]
)
def test_bad_moments_of_single_pictures_heal_inside_the_batch(
    server: EmbeddedS3, wire: Wire, operation: str, part: str
) -> None:
    root = f"moments/{operation}"
    upload(server, f"{root}/in", {"a.png": picture(0), "b.png": picture(1)})
    wire.fail(operation, 503, times=3, part=part)
    with tiles_counted() as tiles:
        summary = count(bucket_folder(f"{root}/in"), bucket_folder(f"{root}/out"))
    assert wire.refused[operation] == 3
    assert tiles() == 2  # the batch was not repeated
    assert summary.outcome is Outcome.COMPLETED


def test_an_output_that_refuses_pictures_fails_the_run_and_leaves_no_records(
    server: EmbeddedS3, wire: Wire
) -> None:
    upload(server, "refusing/in", {"a.png": picture(0), "b.png": picture(1)})
    wire.fail("PutObject", 403, part="detected_images")
    with pytest.raises(PollenError, match=r"1 batches .* First cause: .*refused access"):
        count(bucket_folder("refusing/in"), bucket_folder("refusing/out"))
    assert not [key for key in objects(server, "refusing/out") if "/records/" in key]
    assert counts_of(server, "refusing/out")["a.png"]["reason"].startswith("not counted yet")


def test_an_output_that_can_not_be_written_ends_the_run_before_the_model(
    server: EmbeddedS3, wire: Wire
) -> None:
    upload(server, "closed/in", {"a.png": picture(0)})
    wire.fail("PutObject", 403)
    with (
        tiles_counted() as tiles,
        pytest.raises(PollenError, match=r"^the S3 server refused access to s3://pollen/closed"),
    ):
        count(bucket_folder("closed/in"), bucket_folder("closed/out"))
    assert tiles() == 0
    assert wire.seen["PutObject"] == 1
    assert not objects(server, "closed/out")


def test_one_failed_batch_does_not_stop_the_others(server: EmbeddedS3, wire: Wire) -> None:
    names = [f"{number}.png" for number in range(4)]
    upload(server, "batches/in", {name: picture(seed) for seed, name in enumerate(names)})
    wire.fail("PutObject", 403, part="2.png.jpg")
    source, output = bucket_folder("batches/in"), bucket_folder("batches/out")
    with pytest.raises(
        PollenError, match=r"1 of 4 batches .* the next run counts the rest"
    ) as told:
        count(source, output, batch_images=1)
    found = counts_of(server, "batches/out")
    grains = sum(int(row["total_counted"] or 0) for row in found.values())
    assert grains
    assert f". So far: 4 images, {grains} grains, " in str(told.value)
    assert str(told.value).endswith("% viable")
    assert [row["status"] for row in found.values()] == ["ok", "ok", "failed", "ok"]
    wire.heal()
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 1


def renamed(shown: str, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server show an object under another key, which SeaweedFS itself would refuse."""
    make = storage._client

    def listed(parsed: dict[str, Any], **_: object) -> None:
        for item in parsed.get("Contents", ()):
            item["Key"] = item["Key"].replace(stored, shown)

    def asked(params: dict[str, Any], **_: object) -> None:
        params["Key"] = params["Key"].replace(shown, stored)

    def hostile(*arguments: Any) -> Any:  # noqa: ANN401  (passes through)
        client = make(*arguments)
        client.meta.events.register("after-call.s3.ListObjectsV2", listed)
        client.meta.events.register("before-parameter-build.s3.GetObject", asked)
        client.meta.events.register("before-parameter-build.s3.HeadObject", asked)
        return client

    monkeypatch.setattr(storage, "_client", hostile)


@pytest.mark.parametrize("shown", ["../../../../evil.png", "x/../../../../../evil.png"])
def test_hostile_keys_write_nothing_outside(
    server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    upload(server, "hostile/in", {"evil.png": picture(0), "good.png": picture(1)})
    renamed(shown, "evil.png", monkeypatch)
    output = tmp_path / "deep" / "results"
    summary = count(bucket_folder("hostile/in"), output)
    assert summary.failed["filename"].to_list() == [shown]
    assert "leads out of" in rows(output)[shown]["reason"]
    assert rows(output)["good.png"]["status"] == "ok"
    assert all(name.startswith("deep/results/") for name in files(tmp_path))
    assert count(bucket_folder("hostile/in"), output).counted_now == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_certificates_are_checked_and_a_given_authority_is_trusted(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpsS3(*certificate) as server, server.active():
        upload(server, "tls/in", {"a.png": picture(0)})
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.https_url)
        source, output = bucket_folder("tls/in"), bucket_folder("tls/out")
        with pytest.raises(PollenError, match=r"certificate .* not trusted .*set AWS_CA_BUNDLE"):
            count(source, output)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
        assert count(source, output).outcome is Outcome.COMPLETED
        assert list(counts_of(server, "tls/out")) == ["a.png"]


@pytest.mark.parametrize("verify", [{}, {"verify": True}], ids=["verify not said", "verify"])
def test_a_saved_block_names_the_authority(
    certificate: tuple[Path, Path], prefect_server: EmbeddedPrefect, verify: dict[str, bool]
) -> None:
    with HttpsS3(*certificate) as server:
        client = {"endpoint_url": server.https_url, "verify_cert_path": certificate[0], **verify}
        S3Bucket(
            bucket_name=BUCKET,
            credentials=AwsCredentials(
                aws_access_key_id=server.access_key,
                aws_secret_access_key=SecretStr(server.secret_key),
                region_name="us-east-1",
                aws_client_parameters=AwsClientParameters.model_validate(client),
            ),
        ).save("authority", overwrite=True)
        open_store(Location(block="authority")).check()


def test_a_block_whose_authority_is_not_on_this_machine_is_told(
    certificate: tuple[Path, Path], prefect_server: EmbeddedPrefect, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "ca.pem"
    elsewhere.write_bytes(certificate[0].read_bytes())
    parameters = AwsClientParameters(verify_cert_path=elsewhere)
    S3Bucket(bucket_name=BUCKET, credentials=AwsCredentials(aws_client_parameters=parameters)).save(
        "elsewhere", overwrite=True
    )
    elsewhere.unlink()
    with pytest.raises(PollenError, match=r"'elsewhere' names the CA file .*not on this machine"):
        open_store(Location(block="elsewhere"))
