"""What automations refer to by name and the server knows by id: deployments, and blocks that send messages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from prefect.exceptions import ObjectNotFound

from tasks.cluster.deploy_hint import DEPLOY

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

Kind = Literal["deployment", "block"]

#: What a block can do that is able to send a message.
_SENDS: Final = "notify"


class NotThereError(LookupError):
    """What an automation refers to is not on the server, or of no use; the message says what to do."""


@dataclass(frozen=True)
class Reference:
    """Something on the server, by name.

    Attributes:
        kind: What it is.
        name: Of a deployment with its flow's (``detect/on-upload``), of a block with its type's
            (``slack-webhook/lab``).
    """

    kind: Kind
    name: str


#: Finds the id of what is referred to; raises :class:`NotThereError`.
LookUp = Callable[[Reference], UUID]


def on_server(client: "SyncPrefectClient") -> LookUp:
    """Ids as the server has them now."""

    def look_up(reference: Reference) -> UUID:
        if reference.kind == "deployment":
            return _deployment(client, reference.name)
        return _block(client, reference.name)

    return look_up


def _deployment(client: "SyncPrefectClient", name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        raise NotThereError(
            f"waits for the deployment {name}: {DEPLOY}; then `pollen setup` again"
        ) from None


def _block(client: "SyncPrefectClient", name: str) -> UUID:
    kind, _, own = name.partition("/")
    try:
        # Without secrets: the address to which messages go is one.
        document = client.read_block_document_by_name(own, kind, include_secrets=False)
    except ObjectNotFound:
        raise NotThereError(
            f"nobody is told: there is no block {name}. Make it in the Prefect UI (Blocks), or correct "
            "notifications.to in the site file, then `pollen setup` again"
        ) from None
    schema = document.block_schema
    if schema is None or _SENDS not in schema.capabilities:
        raise NotThereError(
            f"nobody is told: the block {name} can't send messages. Name one of another type in notifications.to, "
            "such as slack-webhook/..., ms-teams-webhook/... or custom-webhook/..., then `pollen setup` again"
        )
    return document.id
