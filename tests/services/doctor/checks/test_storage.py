"""The doctor's look at storage, on a real S3 server and on what stands in its way."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from services.doctor.checks.storage import check_storage
from services.doctor.finding import Finding, Level
from services.embedded import EmbeddedS3
from services.embedded.ports import free_ports
from tasks.storage import store as storage
from tasks.storage.store import Location
from tests.support.proxy import Headers, proxy
from tests.support.runs import BUCKET, objects, upload
from tests.support.tls import HttpsS3, make_certificate
from tests.support.wire import tapped


@pytest.fixture
def server(s3_server: EmbeddedS3) -> Iterator[EmbeddedS3]:
    """The server, in the environment."""
    with s3_server.active():
        yield s3_server


def look(prefix: str, bucket: str = BUCKET) -> list[Finding]:
    return list(check_storage(Location(bucket=bucket, prefix=prefix)))


def worst(findings: list[Finding]) -> list[Finding]:
    """Errors, or else warnings."""
    for level in (Level.ERROR, Level.WARNING):
        if found := [finding for finding in findings if finding.level is level]:
            return found
    return []


def test_a_good_root_is_ok_and_is_left_as_it_was(server: EmbeddedS3) -> None:
    upload(server, "doctor/good", {"detect_images/a.png": b"a", "detect_images/b.png": b"b"})
    before = objects(server, "doctor/good")
    findings = look("doctor/good")
    assert {finding.level for finding in findings} == {Level.OK}
    said = "\n".join(finding.summary for finding in findings)
    for expected in (
        "answers",
        "accepts the keys",
        "clock and the S3 server's agree",
        "checksums are sent when required",
        "detect_images/ holds 2 objects",
        "objects can be written and read",
        "(If-None-Match) work",
        "objects can be deleted",
    ):
        assert expected in said
    assert objects(server, "doctor/good") == before


def test_the_clock_is_compared(server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(server, "doctor/clock", {"detect_images/a.png": b"a"})

    def shifted(minutes: float) -> Finding:
        def answer(headers: Headers) -> None:
            headers["Date"] = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), True)

        with proxy(server.endpoint_url, answer) as address:
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            return next(finding for finding in look("doctor/clock") if "clock" in finding.summary)

    late, ahead = shifted(3), shifted(-40)
    assert (late.level, ahead.level) == (Level.WARNING, Level.ERROR)
    assert "behind the S3 server's" in late.summary
    assert "ahead of the S3 server's" in ahead.summary
    assert "NTP" in ahead.resolution


def test_a_server_that_ignores_conditions_is_told(
    server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = storage._client

    def forgetful(*arguments: Any) -> Any:  # noqa: ANN401  (passes through)
        client = make(*arguments)
        client.meta.events.register("before-parameter-build.s3.PutObject", forget)
        return client

    def forget(params: dict[str, Any], **_: object) -> None:
        params.pop("IfNoneMatch", None)

    monkeypatch.setattr(storage, "_client", forgetful)
    upload(server, "doctor/conditions", {"detect_images/a.png": b"a"})
    (found,) = worst(look("doctor/conditions"))
    assert "ignores conditions" in found.summary
    assert list(objects(server, "doctor/conditions")) == ["detect_images/a.png"]


@pytest.mark.parametrize(
    ("name", "value", "expected", "remedy"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIDUNKNOWNTOTHISONE", "InvalidAccessKeyId", "does not know"),
        ("AWS_SECRET_ACCESS_KEY", "not-the-secret", "SignatureDoesNotMatch", "line break"),
    ],
)
def test_wrong_keys(
    server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    expected: str,
    remedy: str,
) -> None:
    monkeypatch.setenv(name, value)
    findings = look("doctor/keys")
    (found,) = worst(findings)
    assert expected in found.summary
    assert remedy in found.resolution
    assert value not in repr(findings)
    assert "not checked" in findings[-1].summary


def test_no_keys(server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (found,) = worst(look("doctor/keys"))
    assert "no complete S3 credentials" in found.summary
    assert "AWS_ACCESS_KEY_ID" in found.resolution


def test_a_bucket_that_is_not_there(server: EmbeddedS3) -> None:
    (found,) = worst(look("x", bucket="no-such-bucket"))
    assert "there is no bucket 'no-such-bucket'" in found.summary
    assert server.endpoint_url in found.summary


def test_a_port_where_nothing_listens(server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    began = time.monotonic()
    (found,) = worst(look("x"))
    assert f"port {port}" in found.summary
    assert "firewalls" in found.resolution
    assert time.monotonic() - began < 10


def test_a_name_that_is_not_known(server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.pollen.invalid")
    (found,) = worst(look("x"))
    assert "s3.pollen.invalid, can't be resolved here" in found.summary
    assert "DNS" in found.resolution


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, key = make_certificate(tmp_path)
    with HttpsS3(authority, key) as server, server.active():
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.https_url)
        (found,) = worst(look(""))
        assert "certificate" in found.summary
        assert "not trusted" in found.summary
        assert "AWS_CA_BUNDLE" in found.resolution
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        findings = look("")
        assert not worst(findings)
        assert "the certificate of 127.0.0.1 is trusted" in {each.summary for each in findings}
        # And http where the server speaks TLS is no riddle either.
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.https_url.replace("https", "http"))
        (found,) = worst(look(""))
        assert "https" in found.resolution


def test_a_root_that_may_be_misspelt_names_its_neighbours(server: EmbeddedS3) -> None:
    upload(server, "doctor/Pollen_viability", {"detect_images/a.png": b"a"})
    (found,) = worst(look("doctor/Pollen_viabillity"))
    assert found.level is Level.WARNING
    assert "Pollen_viabillity is empty" in found.summary
    assert "doctor/Pollen_viability/" in found.detail


def test_a_misnamed_folder_of_inputs_is_told(server: EmbeddedS3) -> None:
    upload(server, "doctor/misnamed", {"Detect_Images/a.png": b"a"})
    (found,) = worst(look("doctor/misnamed"))
    assert "holds Detect_Images/" in found.summary


@pytest.mark.parametrize(
    ("operation", "expected", "level"),
    [
        ("PutObject", "can't be written", Level.ERROR),
        ("DeleteObject", "can't be deleted", Level.WARNING),
    ],
)
def test_rights_that_are_missing(
    server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    expected: str,
    level: Level,
) -> None:
    upload(server, f"doctor/{operation}", {"detect_images/a.png": b"a"})
    wire = tapped(monkeypatch)
    wire.fail(operation, 403)
    (found,) = worst(look(f"doctor/{operation}"))
    assert expected in found.summary
    assert found.level is level
    assert wire.refused[operation] == 1


def test_checksums_that_ceph_refuses_are_told(
    server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(storage.CLIENT_CONFIG, "request_checksum_calculation", "when_supported")
    upload(server, "doctor/checksums", {"detect_images/a.png": b"a"})
    (found,) = worst(look("doctor/checksums"))
    assert "checksums are sent when supported" in found.summary
