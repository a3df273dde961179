"""Amazon's S3, SQS, SNS and EventBridge on this machine, as far as moto has them.

moto checks no rights and tells of a multipart upload twice; its topics confirm every subscription by
themselves, and its SNS messages lack the header that the real ones have.
"""

import json
import logging
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import boto3
import httpx
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
_EVENTS: Final = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


class Amazon:
    """moto's server; every bucket, queue and topic has a name of its own, so tests may share it."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def __enter__(self) -> Self:
        """Start the server."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        self.s3, self.sqs, self.sns, self.events = map(self.client, ("s3", "sqs", "sns", "events"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self._server.stop()

    @property
    def url(self) -> str:
        """Address of all services."""
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def environment(self) -> dict[str, str]:
        """Variables with credentials; moto takes any."""
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t",
            "AWS_REGION": REGION,
        }

    def client(self, service: str) -> Any:  # noqa: ANN401  (a boto client)
        """A client of one service."""
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload]  # one name of many
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="s3cr3t",
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )

    def new_bucket(self, **notifications: object) -> str:
        """Make a bucket, whose notifications go where it is said."""
        name = _new_name()
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if notifications:
            self.s3.put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration=notifications
            )
        return name

    def new_queue(self, **attributes: str) -> tuple[str, str]:
        """Make a queue; its address and its ARN."""
        name = _new_name()
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def new_topic(self, protocol: str, endpoint: str) -> str:
        """Make a topic with one subscription; its ARN."""
        arn = str(self.sns.create_topic(Name=_new_name())["TopicArn"])
        self.sns.subscribe(TopicArn=arn, Protocol=protocol, Endpoint=endpoint)
        return arn

    def route_events(self, queue_arn: str) -> None:
        """Have EventBridge pass S3's events on to a queue."""
        rule = _new_name()
        self.events.put_rule(
            Name=rule, EventPattern=json.dumps({"source": ["aws.s3"]}), State="ENABLED"
        )
        self.events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue_arn}])

    def left_in(self, queue_url: str) -> int:
        """How many messages a queue holds, those that are being read included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)

    def open(self, url: str) -> bytes:
        """What an address of SNS at Amazon gives: the same path here."""
        here = f"{self.url}{httpx.URL(url).raw_path.decode()}"
        # From a request that is not signed, moto can't tell which service is meant.
        scope = (
            f"AWS4-HMAC-SHA256 Credential=testing/20260101/{REGION}/sns/aws4_request, Signature=x"
        )
        answer = httpx.get(here, headers={"Authorization": scope}, trust_env=False)
        return answer.raise_for_status().content


def to_queue(arn: str) -> list[dict[str, object]]:
    """Value of `QueueConfigurations`."""
    return [{"QueueArn": arn, "Events": _EVENTS}]


def to_topic(arn: str) -> list[dict[str, object]]:
    """Value of `TopicConfigurations`."""
    return [{"TopicArn": arn, "Events": _EVENTS}]


def _new_name() -> str:
    return f"test-{uuid4().hex[:12]}"
