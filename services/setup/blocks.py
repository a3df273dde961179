"""Plan the blocks that name the laboratory's bucket to runs: made without keys, kept with keys.

A saved block keeps what the site file leaves out. No block is ever deleted: a block that is no longer in
the file may be used by unknown runs and flows, may hold the only copy of somebody's keys, and costs nothing.
"""

import os
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound
from prefect_aws import AwsCredentials, S3Bucket

from pollen.errors import PollenError
from services.prefect_server.connection import without_password
from services.setup.plan import Change, Step, keep
from services.site import Site, SiteStorage
from tasks.storage.objects import join_key

KIND = "block"
CREDENTIALS_KIND = "credentials"

_KEYS = (
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "minio_root_user",
    "minio_root_password",
)
_KEYS_HELD = (
    "holds keys (not shown, not changed). Safer: give them to runs as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
    "(on a cluster the Secret pollen-s3, else the worker's environment), then empty them here in the Prefect UI"
)


@dataclass(frozen=True)
class _Saved:
    """A block as the server has it; its secret fields hold asterisks.

    Attributes:
        id: Id of the block.
        name: Name of the block.
        data: Its fields.
        credentials: Name of the credentials block that a bucket's block refers to.
        reference: That reference, in the form that the server takes.
    """

    id: UUID
    name: str
    data: dict[str, Any]
    credentials: str | None = None
    reference: dict[str, Any] | None = None


def credentials_name(storage: SiteStorage) -> str:
    """Return the name of the credentials block that belongs to the storage's bucket block."""
    return f"{storage.block}-credentials"


def plan_blocks(client: SyncPrefectClient, site: Site) -> list[Step]:
    """Plan the bucket's block and its credentials.

    Raises:
        PollenError: If no bucket is named, and no block is saved.
    """
    storage = site.storage
    ours = _saved(client, AwsCredentials, credentials_name(storage))
    bucket = _saved(client, S3Bucket, storage.block)
    if bucket is None:
        if storage.bucket is None:
            raise PollenError(
                f"no bucket is named, and the Prefect server has no block '{storage.block}' yet: name the laboratory's "
                "bucket as storage.bucket in the site file, or with --bucket"
            )
        first = _new_credentials(client, storage) if ours is None else _ours(client, storage, ours)
        return [first, _new_bucket(client, storage)]
    if bucket.credentials is None:
        return [_bucket_with_all(client, storage, bucket)]
    if ours is not None and bucket.credentials == ours.name:
        return [_ours(client, storage, ours), _bucket(client, storage, bucket)]
    return [_theirs(storage, bucket), _bucket(client, storage, bucket)]


def _saved(client: SyncPrefectClient, kind: type[Block], name: str) -> _Saved | None:
    try:
        # Without secrets: what is not read can't be shown.
        document = client.read_block_document_by_name(
            name, kind.get_block_type_slug(), include_secrets=False
        )
    except ObjectNotFound:
        return None
    data = document.data or {}
    if "credentials" not in (document.block_document_references or {}):
        return _Saved(document.id, name, data)
    credentials = document.block_document_references["credentials"]["block_document"]
    return _Saved(document.id, name, data, credentials["name"], _reference(credentials["id"]))


def _reference(block_id: UUID | str) -> dict[str, Any]:
    return {"$ref": {"block_document_id": str(block_id)}}


def _new_credentials(client: SyncPrefectClient, storage: SiteStorage) -> Step:
    name = credentials_name(storage)
    # Only for a new block: the endpoint of a shell must not replace the one that is saved.
    shell = os.environ.get("AWS_ENDPOINT_URL")
    if storage.endpoint_url is None and shell:
        storage = storage.model_copy(update={"endpoint_url": shell})
    data = _credentials_fields(storage, {}, new=True)
    where = storage.endpoint_url or "Amazon S3"
    detail = f"{where}, without keys: runs take them from their environment"
    return Step(
        Change(CREDENTIALS_KIND, name, "create", detail),
        partial(_create, client, AwsCredentials, name, data),
    )


def _new_bucket(client: SyncPrefectClient, storage: SiteStorage) -> Step:
    def do() -> None:
        credentials = _saved(client, AwsCredentials, credentials_name(storage))
        if credentials is None:
            raise PollenError(f"its credentials '{credentials_name(storage)}' could not be made")
        data = {
            "bucket_name": storage.bucket,
            "bucket_folder": storage.folder,
            "credentials": _reference(credentials.id),
        }
        _create(client, S3Bucket, storage.block, data)

    place = join_key(str(storage.bucket), storage.folder)
    return Step(Change(KIND, storage.block, "create", f"s3://{place}"), do)


def _ours(client: SyncPrefectClient, storage: SiteStorage, saved: _Saved) -> Step:
    """Plan credentials that setup made, or that have the name it would give them."""
    new = _credentials_fields(storage, saved.data)
    differences = _differences(saved.data, new)
    held = _KEYS_HELD if _holds_keys(saved.data) else ""
    if not differences:
        return keep(CREDENTIALS_KIND, saved.name, held, attention=bool(held))
    detail = "; ".join([*differences, *filter(None, [held])])
    return Step(
        Change(CREDENTIALS_KIND, saved.name, "update", detail, attention=bool(held)),
        partial(_update, client, saved, new),
    )


def _theirs(storage: SiteStorage, bucket: _Saved) -> Step:
    """Keep credentials that somebody else made, perhaps for other uses too."""
    data = bucket.data.get("credentials") or {}
    notes = _differences(data, _credentials_fields(storage, data))
    if notes:
        notes = [
            f"not made by setup, so left unchanged; it differs from the site file: {', '.join(notes)}"
        ]
    if _holds_keys(data):
        notes.append(_KEYS_HELD)
    name = str(bucket.credentials)
    return keep(CREDENTIALS_KIND, name, "; ".join(notes), attention=bool(notes))


def _bucket(client: SyncPrefectClient, storage: SiteStorage, saved: _Saved) -> Step:
    """Plan a bucket's block that refers to a credentials block."""
    new = _bucket_fields(storage, saved.data)
    differences = _differences(saved.data, new)
    if not differences:
        return keep(KIND, saved.name, _place(saved.data))
    return Step(
        Change(KIND, saved.name, "update", "; ".join([*differences, _then(saved, new)])),
        # The server forgets a reference that an update does not repeat.
        partial(_update, client, saved, new | {"credentials": saved.reference}),
    )


def _then(saved: _Saved, new: dict[str, Any]) -> str:
    """Return the place of the bucket's block after the change: a folder that is not given stays."""
    return f"then {_place(saved.data | new)}"


def _bucket_with_all(client: SyncPrefectClient, storage: SiteStorage, saved: _Saved) -> Step:
    """Plan a bucket's block that contains its credentials, as one saved from Python does."""
    inside = saved.data.get("credentials") or {}
    new = _bucket_fields(storage, saved.data)
    differences = _differences(saved.data, new)
    fields = _credentials_fields(storage, inside)
    if inner := _differences(inside, fields):
        differences += inner
        # Secret fields are sent back as asterisks; the server then keeps their values.
        new |= {"credentials": inside | fields}
    held = _KEYS_HELD if _holds_keys(inside) else ""
    if not differences:
        detail = "; ".join(filter(None, [_place(saved.data), held]))
        return keep(KIND, saved.name, detail, attention=bool(held))
    detail = "; ".join([*differences, _then(saved, new), *filter(None, [held])])
    return Step(
        Change(KIND, saved.name, "update", detail, attention=bool(held)),
        partial(_update, client, saved, new),
    )


def _bucket_fields(storage: SiteStorage, data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the bucket in the site file that differ from the block."""
    fields: dict[str, Any] = {}
    if storage.bucket is not None and storage.bucket != data.get("bucket_name"):
        fields["bucket_name"] = storage.bucket
    is_folder_given = "folder" in storage.model_fields_set
    if is_folder_given and storage.folder != join_key(data.get("bucket_folder") or ""):
        fields["bucket_folder"] = storage.folder
    return fields


def _credentials_fields(
    storage: SiteStorage, data: dict[str, Any], *, new: bool = False
) -> dict[str, Any]:
    """Return the fields of the server in the site file that differ from the credentials."""
    before = data.get("aws_client_parameters") or {}
    parameters = dict(before)
    if storage.endpoint_url is not None:
        parameters["endpoint_url"] = storage.endpoint_url
    if storage.ca_file is not None:
        parameters["verify_cert_path"] = storage.ca_file
    # prefect-aws loses the CA file of a block that was saved with `verify: null`; False switches off TLS.
    unchecked = before.get("verify") is False
    not_set = before.get("verify") is None
    if new or unchecked or (not_set and parameters.get("verify_cert_path")):
        parameters["verify"] = True
    fields: dict[str, Any] = {}
    if parameters != before:
        fields["aws_client_parameters"] = parameters
    if storage.region is not None and storage.region != data.get("region_name"):
        fields["region_name"] = storage.region
    return fields


_NAMES: dict[str, str] = {
    "bucket_name": "bucket",
    "bucket_folder": "folder",
    "endpoint_url": "address",
    "verify_cert_path": "CA file",
    "region_name": "region",
}


def _differences(data: dict[str, Any], fields: dict[str, Any]) -> list[str]:
    """Describe in words what would change."""
    flat = dict(fields)
    before = data
    if "aws_client_parameters" in flat:
        flat |= flat.pop("aws_client_parameters")
        before = data | (data.get("aws_client_parameters") or {})
    words = [
        f"{word}: {_shown(before.get(name))} to {_shown(flat[name])}"
        for name, word in _NAMES.items()
        if name in flat and flat[name] != before.get(name)
    ]
    if flat.get("verify") is True and before.get("verify") is not True:
        words.append("certificates are checked")
    return words


def _shown(value: object) -> str:
    return without_password(str(value)) if value else "none"


def _place(data: dict[str, Any]) -> str:
    return f"s3://{join_key(str(data.get('bucket_name')), data.get('bucket_folder') or '')}"


def _holds_keys(data: dict[str, Any]) -> bool:
    return any(data.get(name) for name in _KEYS)


def _create(client: SyncPrefectClient, kind: type[Block], name: str, data: dict[str, Any]) -> None:
    """Save the fields of a block unchanged.

    The block's own class is not used: it would look for the CA file on this machine, but the file is on the
    machine of the runs.
    """
    kind.register_type_and_schema()
    client.create_block_document(
        BlockDocumentCreate(
            name=name,
            data=data,
            block_type_id=_id(kind, "type"),
            block_schema_id=_id(kind, "schema"),
        )
    )


def _id(kind: type[Block], what: Literal["type", "schema"]) -> UUID:
    value = kind._block_type_id if what == "type" else kind._block_schema_id
    if value is None:
        raise PollenError(f"the Prefect server did not register the block {what} {kind.__name__}")
    return value


def _update(client: SyncPrefectClient, saved: _Saved, fields: dict[str, Any]) -> None:
    """Change some fields; the server keeps the others."""
    client.update_block_document(saved.id, BlockDocumentUpdate(data=fields))
