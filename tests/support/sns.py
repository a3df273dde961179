"""Messages as Amazon's SNS sends them by HTTP, signed with a key of ours."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

TOPIC: Final = "arn:aws:sns:eu-central-1:123456789012:uploads"
HOST: Final = "https://sns.eu-central-1.amazonaws.com"
CERTIFICATE_URL: Final = f"{HOST}/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
TOKEN: Final = "token-of-the-subscription"
_BY_TYPE: Final = {
    "Notification": ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
    "SubscriptionConfirmation": [
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    ],
}
_HASHES: Final = {"1": hashes.SHA1(), "2": hashes.SHA256()}


@cache
def signing_key(number: int = 0) -> rsa.RSAPrivateKey:
    """A key, the same for the same number."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    *,
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=1),
) -> bytes:
    """A certificate (PEM) of a key, valid from and until so long from now."""
    key = key or signing_key()
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def notification(message: object, **other: object) -> dict[str, Any]:
    """A signed Notification of a message."""
    return signed(
        {
            **_common("Notification"),
            "Subject": "Amazon S3 Notification",
            "Message": json.dumps(message),
            "UnsubscribeURL": f"{HOST}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1",
            **other,
        }
    )


def subscription(kind: str = "SubscriptionConfirmation", **other: object) -> dict[str, Any]:
    """A signed SubscriptionConfirmation, or UnsubscribeConfirmation."""
    return signed(
        {
            **_common(kind),
            "Token": TOKEN,
            "Message": "You have chosen to subscribe to the topic.\nTo confirm it, visit the SubscribeURL.",
            "SubscribeURL": f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}",
            **other,
        }
    )


def signed(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its signature; fields that are None are left out."""
    present = {name: value for name, value in message.items() if value is not None}
    names = _BY_TYPE.get(present["Type"], _BY_TYPE["SubscriptionConfirmation"])
    text = "".join(f"{name}\n{present[name]}\n" for name in names if name in present)
    signature = signing_key().sign(
        text.encode(), padding.PKCS1v15(), _HASHES[present["SignatureVersion"]]
    )
    return {**present, "Signature": base64.b64encode(signature).decode()}


def _common(kind: str) -> dict[str, Any]:
    return {
        "Type": kind,
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
    }
