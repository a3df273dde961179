"""References of automations: names of deployments and of blocks that send messages, and their ids on the server."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from prefect.exceptions import ObjectNotFound

from tasks.cluster.deploy_hint import DEPLOY

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

Kind = Literal["deployment", "block"]

#: Capability of blocks that can send messages.
_SENDS: Final = "notify"


class NotThereError(LookupError):
    """An object that an automation refers to is missing or unusable; the message names the remedy."""


@dataclass(frozen=True)
class Reference:
    """A reference to an object on the server, by name.

    Attributes:
        kind: Kind of the object.
        name: Name of a deployment with that of its flow (`detect/on-upload`), or of a block with that of its
            type (`slack-webhook/lab`).
    """

    kind: Kind
    name: str


#: Finds the id of an object; raises `NotThereError`.
LookUp = Callable[[Reference], UUID]


def on_server(client: "SyncPrefectClient") -> LookUp:
    """Return a function that looks up ids on the server."""

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
        # Without secrets: the address for messages is a secret.
        document = client.read_block_document_by_name(own, kind, include_secrets=False)
    except ObjectNotFound:
        raise NotThereError(
            f"sends no messages: there is no block {name}. Make it in the Prefect UI (Blocks), or correct "
            "notifications.to in the site file, then `pollen setup` again"
        ) from None
    schema = document.block_schema
    if schema is None or _SENDS not in schema.capabilities:
        raise NotThereError(
            f"sends no messages: the block {name} can't send messages. Name one of another type in notifications.to, "
            "such as slack-webhook/..., ms-teams-webhook/... or custom-webhook/..., then `pollen setup` again"
        )
    return document.id
