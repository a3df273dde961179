"""Messages of Amazon's SNS that come by HTTP: whether SNS itself signed them, and for whom."""

from collections.abc import Callable, Collection, Mapping

from tasks.faults import PollenError


class RefusedError(PollenError):
    """A message of SNS that is not to be believed; the sentence says why."""


def is_message(body: object) -> bool:
    """Whether a parsed message has the form of SNS, whoever sent it."""
    return isinstance(body, dict) and "Type" in body and "TopicArn" in body


def fetch_certificate(url: str) -> bytes:
    """Fetch a signing certificate.

    Raises:
        RefusedError: It can't be had.
    """
    raise NotImplementedError(url)


class Verifier:
    """Tells messages that SNS signed for an allowed topic from all others.

    Args:
        topics: ARNs of the topics whose messages are taken; where there are none, none is.
        certificates: Gives the signing certificate (PEM) at an address.
    """

    def __init__(
        self,
        topics: Collection[str],
        certificates: Callable[[str], bytes] = fetch_certificate,
    ) -> None:
        self._topics = frozenset(topics)
        self._certificates = certificates

    def check(self, message: Mapping[str, object]) -> None:
        """Make sure that SNS sent a message for an allowed topic, and lately.

        Blocks while a certificate is fetched.

        Raises:
            RefusedError: It did not, or that can't be found out.
        """
        raise NotImplementedError


def confirm(message: Mapping[str, object]) -> None:
    """Confirm the subscription that a checked message of type SubscriptionConfirmation asks about.

    Raises:
        RefusedError: Its address is not one of SNS, or SNS did not confirm.
    """
    raise NotImplementedError
