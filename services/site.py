"""What is to be set up where: ``deployments/site.yaml``, the one file an engineer edits.

It holds no secrets and has no place for them: keys reach runs as environment variables.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pollen.errors import PollenError
from tasks.storage.entries import joined

PoolType = Literal["kubernetes", "process"]

SITE_FILE = "site.yaml"

#: Where the application is: in an image, the folder with ``prefect.yaml`` and ``deployments/``.
APP_DIR = "POLLEN_APP_DIR"


def _bucket(name: str) -> str:
    if "/" in name or not name.strip():
        raise ValueError("expected the bare name of a bucket, without s3:// and without a folder")
    return name


def _endpoint(url: str) -> str:
    # What came is not quoted: it may hold a password.
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an address such as https://s3.example.org")
    if parts.username or parts.password or parts.query:
        raise ValueError("expected the server's address alone: keys never stand in this file")
    return url.rstrip("/")


def _tidy(folder: str) -> str:
    return joined(folder)


class _Section(BaseModel):
    """A section of the file: a misspelt name is an error, not a setting that does nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, data: object) -> object:
        """A section with nothing but comments below it comes as None."""
        return {} if data is None else data


class SiteStorage(_Section):
    """Where the laboratory's pictures and results are, without the keys to them."""

    block: str = Field(default="pollen", pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    """Name of the S3Bucket block that runs read."""
    bucket: Annotated[str, AfterValidator(_bucket)] | None = None
    """None: the bucket of the block that is saved already."""
    folder: Annotated[str, AfterValidator(_tidy)] = ""
    """Folder in the bucket below which the laboratory's folders are; not said, a saved block keeps its own."""
    endpoint_url: Annotated[str, AfterValidator(_endpoint)] | None = None
    """None: Amazon's own."""
    ca_file: str | None = Field(default=None, min_length=1)
    """Path, where runs run, of the CA file for a server whose certificate is the institute's own."""
    region: str | None = Field(default=None, min_length=1)


class SitePool(_Section):
    """A work pool: its kind, and what differs from its job template."""

    type: PoolType = "kubernetes"
    template: Literal["gpu", "cpu"] | None = None
    """Job template of a kubernetes pool, in ``deployments/work-pools``; None: the one of the pool's name."""
    variables: dict[str, Any] = {}
    """Other defaults for variables of the job template."""
    concurrency_limit: int | None = Field(default=None, ge=1)
    """How many runs may be under way at once; None: what the pool has is kept."""

    @field_validator("variables", mode="before")
    @classmethod
    def _none(cls, variables: object) -> object:
        """``variables:`` with nothing but comments below it."""
        return {} if variables is None else variables

    def of_type(self, kind: PoolType) -> Self:
        """This pool as one of another kind: variables are for the job template of one kind only."""
        if kind == self.type:
            return self
        return self.model_copy(update={"type": kind, "variables": {}})


class Recovery(_Section):
    """How much is done by itself for a run that crashed, waits or is gone."""

    requeues: int = Field(default=3, ge=0, le=20)
    """How often a crashed run is started again, in all."""
    # Longer than the three minutes that a run goes without a sign of life: one that only seemed dead shows
    # itself meanwhile, and is not started a second time beside itself.
    restart_minutes: int = Field(default=4, ge=4)
    """How long after the crash."""
    # Less than the hour for which a run keeps its place while it waits (`grace_period_seconds` in prefect.yaml).
    pending_minutes: int = Field(default=30, ge=1, le=55)
    """How long a pod may wait for its image or a node before its run is ended."""
    # A run gives a sign of life every three minutes; three of them may be missed.
    zombie_minutes: int = Field(default=15, ge=9)
    """How long a run may give no sign of life before it counts as crashed."""


class Kubernetes(_Section):
    """The cluster, where it can't be seen from the environment."""

    namespace: str | None = Field(default=None, min_length=1)
    """Namespace of workers and runs; None: that of the current context, or of this pod."""


class Events(_Section):
    """What happens when something was uploaded."""

    quiet_seconds: float = Field(default=30, ge=1, le=3600)
    """A run is started this long after the last upload below a root."""
    longest_wait_seconds: float = Field(default=300, ge=1, le=86_400)
    """But at the latest this long after the first one, while uploads go on and on."""
    check_exports: bool = False
    """Whether a new zip in ``staging_area`` is checked, and the findings reported."""
    sweep_minutes: int | None = Field(default=None, ge=5, le=1440)
    """How often to look for pictures that no event announced; None: only every night."""
    sns_topics: tuple[str, ...] = ()
    """ARNs of the only topics whose messages are taken, and whose subscription is confirmed."""
    sqs_queue: Annotated[str, AfterValidator(_endpoint)] | None = None
    """Address of the queue that is read; None: none is."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.longest_wait_seconds < self.quiet_seconds:
            raise ValueError("longest_wait_seconds is less than quiet_seconds: nothing would wait")
        return self


Occasion = Literal["failed", "failed_images", "models", "silence"]


class Notification(_Section):
    """Somebody who wants to hear of runs."""

    block: str = Field(pattern="^[a-z0-9-]+/[a-z0-9-]+$")
    """Type and name of a saved notification block, such as ``slack-webhook/lab``; it holds the secret address."""
    about: tuple[Occasion, ...] = Field(
        default=("failed", "failed_images", "models", "silence"), min_length=1
    )
    """Runs that failed; runs that could not read some pictures; models promoted or refused; no run for long."""


class Notifications(_Section):
    """Who hears of runs; nobody unless said."""

    to: tuple[Notification, ...] = ()
    silent_days: int = Field(default=3, ge=1, le=365)
    """After so many days without a detection that ended well, somebody should look."""


class Site(_Section):
    """All that is set up on one Prefect server."""

    storage: SiteStorage = SiteStorage()
    prefixes: tuple[str, ...] = Field(default=("",), min_length=1)
    """Roots below the storage's folder, one per laboratory or project."""
    pools: dict[str, SitePool] = {"gpu": SitePool(), "cpu": SitePool()}
    recovery: Recovery = Recovery()
    events: Events = Events()
    notifications: Notifications = Notifications()
    kubernetes: Kubernetes = Kubernetes()

    @field_validator("prefixes")
    @classmethod
    def _each_once(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        tidy = tuple(joined(prefix) for prefix in prefixes)
        if len(set(tidy)) < len(tidy):
            raise ValueError("a root is named twice")
        return tidy

    def over(self, overrides: "Overrides") -> Self:
        """This site with what the command line says in place of the file's.

        Raises:
            ValidationError: An override can't be used.
        """
        given = {
            name: value
            for name in ("bucket", "folder", "endpoint_url")
            if (value := getattr(overrides, name)) is not None
        }
        # What neither says stays unsaid: a saved block then keeps its own.
        data = self.model_dump(exclude_unset=True)
        data["storage"] = data.get("storage", {}) | given
        if overrides.pools is not None:
            data["pools"] = {
                name: pool.of_type(overrides.pools).model_dump(exclude_unset=True)
                for name, pool in self.pools.items()
            }
        return self.model_validate(data)


@dataclass(frozen=True)
class Overrides:
    """What the command line says in place of the file's; None is not said.

    Attributes:
        bucket: Name of the bucket.
        folder: Folder in it.
        endpoint_url: Address of the S3 server.
        pools: Kind of all pools.
    """

    bucket: str | None = None
    folder: str | None = None
    endpoint_url: str | None = None
    pools: PoolType | None = None


def read_site(config: Path | None, overrides: Overrides = Overrides()) -> Site:
    """Read what is to be set up.

    Args:
        config: The file; None for ``site.yaml`` in :func:`deployments_folder`.
        overrides: What is said in place of the file's.

    Raises:
        PollenError: There is no such file, or it can't be used; the message names file and field.
    """
    path = config if config is not None else deployments_folder() / SITE_FILE
    try:
        return _validated(path).over(overrides)
    except ValidationError as error:
        raise PollenError(f"the command line and {path} together: {_faults(error)}") from error


def deployments_folder() -> Path:
    """The folder ``deployments`` of the application: job templates, automations, ``site.yaml``.

    Raises:
        PollenError: It is not where it is looked for.
    """
    application = os.environ.get(APP_DIR)
    if application:
        folder = Path(application) / "deployments"
        if not folder.is_dir():
            raise PollenError(
                f"{APP_DIR} is {application}, which holds no folder 'deployments': set it to the "
                "folder with prefect.yaml"
            )
        return folder
    for place in (Path(__file__).parents[1], Path.cwd()):
        folder = place / "deployments"
        # Installed beside others, a folder of that name may be anybody's.
        if (folder / SITE_FILE).is_file():
            return folder
    raise PollenError(
        f"the folder 'deployments' with {SITE_FILE} is neither beside this program nor in {Path.cwd()}: run this in a "
        f"checkout, or set {APP_DIR} to the folder with prefect.yaml"
    )


def _validated(path: Path) -> Site:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PollenError(f"{path} does not exist: name the file with --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PollenError(f"{path} can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise PollenError(f"{path}{line} is not valid YAML: {problem}") from error
    try:
        return Site.model_validate(data)
    except ValidationError as error:
        raise PollenError(f"{path}: {_faults(error)}") from error


def _faults(error: ValidationError) -> str:
    """What is wrong, field by field, without the values: somebody may have put a key there."""
    faults = []
    for each in error.errors(include_url=False, include_input=False):
        field = ".".join(map(str, each["loc"])) or "the file"
        if each["type"] == "extra_forbidden":
            faults.append(f"'{field}' is no setting; check its spelling and its indentation")
        else:
            faults.append(f"{field}: {each['msg'].removeprefix('Value error, ')}")
    return "; ".join(faults)
