"""Messages as Amazon SNS sends them over HTTP."""

import json
from typing import Any, Final

TOPIC: Final = "arn:aws:sns:eu-central-1:123456789012:uploads"
HOST: Final = "https://sns.eu-central-1.amazonaws.com"
#: The token of SNS for one subscription, which is not that of the receiver.
SUBSCRIPTION_TOKEN: Final = "token-of-the-subscription"
#: The header that SNS itself sends with a notification.
DIRECT: Final = {"x-amz-sns-message-type": "Notification"}


def notification(message: object, **other: object) -> dict[str, Any]:
    """Return a Notification of a message."""
    return {
        **_common("Notification"),
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
        "UnsubscribeURL": f"{HOST}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1",
        **other,
    }


def subscription(kind: str = "SubscriptionConfirmation", **other: object) -> dict[str, Any]:
    """Return a SubscriptionConfirmation or an UnsubscribeConfirmation."""
    return {
        **_common(kind),
        "Token": SUBSCRIPTION_TOKEN,
        "Message": "You have chosen to subscribe to the topic.\nTo confirm it, visit the SubscribeURL.",
        "SubscribeURL": confirmation_url(),
        **other,
    }


def confirmation_url(host: str = HOST, topic: str = TOPIC, token: str = SUBSCRIPTION_TOKEN) -> str:
    """Return the address that confirms a subscription."""
    return f"{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"


def _common(kind: str) -> dict[str, Any]:
    return {
        "Type": kind,
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Timestamp": "2026-11-23T10:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "bm90IGEgc2lnbmF0dXJl",
        "SigningCertURL": f"{HOST}/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
    }
