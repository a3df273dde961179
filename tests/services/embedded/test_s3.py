import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from services.embedded import EmbeddedS3, EmbeddedServerError, s3
from services.embedded.ports import LOOPBACK, free_ports, is_free

pytestmark = pytest.mark.server

_OWNER = """
import sys, time
from services.embedded import EmbeddedS3
server = EmbeddedS3(["pollen"])
server.start()
print(server.pid, server.endpoint_url, server._runtime_folder, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    """Wait until the condition holds; tell whether it did in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def group_members(group: int) -> list[psutil.Process]:
    """Return the live processes of a process group."""
    return [
        process
        for process in psutil.process_iter(["status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and _group(process.pid) == group
    ]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def group_of(server: EmbeddedS3) -> list[psutil.Process]:
    assert server.pid is not None
    return group_members(server.pid)


def sockets_in_tmp() -> set[Path]:
    return set(Path("/tmp").glob("seaweedfs-*.sock"))


def port_of(server: EmbeddedS3) -> int:
    return int(server.endpoint_url.rsplit(":", 1)[1])


def code_of(error: pytest.ExceptionInfo[ClientError]) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_every_asked_bucket_answers_after_the_start(s3_server: EmbeddedS3) -> None:
    client = s3_server.client()
    client.put_object(Bucket="pollen", Key="embedded/žluť 1+a.txt", Body=b"grain")
    body = client.get_object(Bucket="pollen", Key="embedded/žluť 1+a.txt")["Body"].read()
    assert body == b"grain"


def test_its_end_leaves_nothing() -> None:
    with EmbeddedS3(["landing", "processed"]) as server:
        names = {bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]}
        group, port, folder = server.pid, port_of(server), server._runtime_folder
        sockets = set(server._litter())
        assert sockets & sockets_in_tmp()
        assert group is not None
        assert not is_free(port)
    assert names == {"landing", "processed"}
    assert not server.running
    assert not group_members(group)
    assert is_free(port)
    assert not folder.exists()
    assert not sockets & sockets_in_tmp()


def test_it_listens_on_loopback_only(s3_server: EmbeddedS3) -> None:
    listening = {
        connection.laddr.ip
        for process in group_of(s3_server)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {LOOPBACK}


def test_its_keys_are_on_no_command_line(s3_server: EmbeddedS3) -> None:
    processes = group_of(s3_server)
    words = [word for process in processes for word in process.cmdline()]
    assert any("weed" in word for word in words)
    assert not [word for word in words if s3_server.secret_key in word]
    assert not [word for word in words if s3_server.access_key in word]


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_wrong_credentials_are_refused(s3_server: EmbeddedS3, wrong: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id="UNKNOWN" if wrong == "key" else s3_server.access_key,
        aws_secret_access_key="wrong" if wrong == "secret" else s3_server.secret_key,
        region_name="us-east-1",
    )
    with pytest.raises(ClientError) as refused:
        client.list_objects_v2(Bucket="pollen")
    assert code_of(refused) == 403


def test_a_client_without_credentials_is_refused(s3_server: EmbeddedS3) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
    )
    with pytest.raises(ClientError) as refused:
        client.list_objects_v2(Bucket="pollen")
    assert code_of(refused) == 403


def test_two_at_once_are_two_servers(s3_server: EmbeddedS3) -> None:
    with EmbeddedS3(["pollen"]) as other:
        other.client().put_object(Bucket="pollen", Key="only-here", Body=b"")
        with pytest.raises(ClientError) as missing:
            s3_server.client().head_object(Bucket="pollen", Key="only-here")
        assert code_of(missing) == 404
        with pytest.raises(ClientError):
            boto3.client(
                "s3",
                endpoint_url=other.endpoint_url,
                aws_access_key_id=s3_server.access_key,
                aws_secret_access_key=s3_server.secret_key,
                region_name="us-east-1",
            ).list_buckets()


def test_a_port_taken_since_the_look_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_ports(5)
    choices = iter([first, free_ports(5)])
    monkeypatch.setattr(s3, "free_ports", lambda _count: next(choices))
    with socket.socket() as taken:
        taken.bind((LOOPBACK, first[0]))
        taken.listen()
        with EmbeddedS3(["pollen"]) as server:
            assert port_of(server) != first[0]
            server.client().put_object(Bucket="pollen", Key="a", Body=b"")


def test_a_port_taken_while_it_was_stopped_is_named() -> None:
    with EmbeddedS3(["pollen"]) as server, socket.socket() as taken:
        server.stop()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((LOOPBACK, port_of(server)))
        taken.listen()
        with pytest.raises(EmbeddedServerError, match=f"took port {port_of(server)}"):
            server.start()


def test_data_and_address_survive_a_crash_and_a_restart() -> None:
    with EmbeddedS3(["pollen"]) as server:
        address = server.endpoint_url
        client = server.client()
        client.put_object(Bucket="pollen", Key="a", Body=b"acknowledged")
        server.kill()
        assert not server.running
        server.start()
        assert client.get_object(Bucket="pollen", Key="a")["Body"].read() == b"acknowledged"
        client.put_object(Bucket="pollen", Key="b", Body=b"second life")
        server.restart()
        assert server.endpoint_url == address
        assert client.get_object(Bucket="pollen", Key="b")["Body"].read() == b"second life"


def test_a_given_data_folder_outlives_the_server(tmp_path: Path) -> None:
    with EmbeddedS3(["pollen"], data_folder=tmp_path / "objects") as server:
        server.client().put_object(Bucket="pollen", Key="kept", Body=b"grain")
    with EmbeddedS3(["pollen", "more"], data_folder=tmp_path / "objects") as server:
        client = server.client()
        client.head_bucket(Bucket="more")
        assert client.get_object(Bucket="pollen", Key="kept")["Body"].read() == b"grain"


def test_a_killed_owner_leaves_nothing() -> None:
    before = sockets_in_tmp()
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    group_text, address, folder = owner.stdout.readline().split()
    group, port = int(group_text), int(address.rsplit(":", 1)[1])
    assert group_members(group)
    ours = sockets_in_tmp() - before
    owner.kill()
    owner.communicate()
    assert eventually(lambda: not group_members(group))
    assert eventually(lambda: not Path(folder).exists())
    assert eventually(lambda: not sockets_in_tmp() & ours)
    assert eventually(lambda: is_free(port))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux' parent death signal")
def test_a_killed_supervisor_takes_the_server_along() -> None:
    with EmbeddedS3(["pollen"]) as server:
        group, port = server.pid, port_of(server)
        assert group is not None
        os.kill(group, signal.SIGKILL)
        assert eventually(lambda: not group_members(group))
        assert eventually(lambda: is_free(port))
        assert not server.running


def test_a_bucket_name_that_s3_forbids_fails_at_once_and_is_named() -> None:
    with (
        pytest.raises(EmbeddedServerError, match=r"bucket 'No_Good'.*3 to 63 characters"),
        EmbeddedS3(["No_Good"]),
    ):
        pass


def test_a_missing_program_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=r"extra 'embedded'.*make venv"), EmbeddedS3():
        pass


def test_a_server_that_can_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho no space left on device >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
        with pytest.raises(EmbeddedServerError, match=r"exit code 3.*\n.*no space left"):
            EmbeddedS3().start()


def test_inside_active_any_aws_library_finds_this_server_only(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "laboratory")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with s3_server.active():
        assert "AWS_PROFILE" not in os.environ
        boto3.session.Session().client("s3").head_bucket(Bucket="pollen")
    assert os.environ["AWS_PROFILE"] == "laboratory"
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ
