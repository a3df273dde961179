"""Servers with TLS whose certificate nobody trusts unless told to."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.embedded import EmbeddedS3
from services.embedded.ports import free_ports


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key; returns both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "laboratory")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "ca.pem", folder / "key.pem"


class HttpsS3(EmbeddedS3):
    """The same server, which also answers on a port of its own with TLS."""

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__(["pollen"])
        self._files = certificate, key
        self._https_port = free_ports(1)[0]

    @property
    def https_url(self) -> str:
        """Address of the port with TLS."""
        return f"https://127.0.0.1:{self._https_port}"

    def _command(self) -> list[str]:
        certificate, key = self._files
        return [
            *super()._command(),
            f"-s3.port.https={self._https_port}",
            f"-s3.cert.file={certificate}",
            f"-s3.key.file={key}",
        ]
