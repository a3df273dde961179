"""The site file, `deployments/site.yaml`: all that an engineer configures.

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
from tasks.storage.objects import join_key

PoolType = Literal["kubernetes", "process"]

SITE_FILE = "site.yaml"

#: Variable with the folder of the application, which holds `prefect.yaml` and `deployments/`.
APP_DIR = "POLLEN_APP_DIR"


def _bucket(name: str) -> str:
    if "/" in name or not name.strip():
        raise ValueError("expected the bare name of a bucket, without s3:// and without a folder")
    return name


def _endpoint(url: str) -> str:
    # The value is not quoted: it may hold a password.
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an address such as https://s3.example.org")
    if parts.username or parts.password or parts.query:
        raise ValueError("expected only the server's address: this file must not hold keys")
    return url.rstrip("/")


def _tidy(folder: str) -> str:
    return join_key(folder)


class _Section(BaseModel):
    """A section of the file: a misspelt name is an error, not a setting without effect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, data: object) -> object:
        """Read a section that holds only comments, which YAML reads as None, as an empty one."""
        return {} if data is None else data


class SiteStorage(_Section):
    """The place of the laboratory's pictures and results, without keys."""

    block: str = Field(default="pollen", pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    """Name of the S3Bucket block that runs use."""
    bucket: Annotated[str, AfterValidator(_bucket)] | None = None
    """Name of the bucket; None for the bucket of the saved block."""
    folder: Annotated[str, AfterValidator(_tidy)] = ""
    """Folder in the bucket that holds the laboratory's folders; if it is left out, a saved block keeps its own."""
    endpoint_url: Annotated[str, AfterValidator(_endpoint)] | None = None
    """Address of the S3 server; None for Amazon's."""
    ca_file: str | None = Field(default=None, min_length=1)
    """Path, on the machine of the runs, of the CA file for a server with a private certificate."""
    region: str | None = Field(default=None, min_length=1)


class SitePool(_Section):
    """A work pool: its type, and the differences from its job template."""

    type: PoolType = "kubernetes"
    template: Literal["gpu", "cpu"] | None = None
    """Job template of a kubernetes pool, in `deployments/work-pools`; None for the one with the pool's name."""
    variables: dict[str, Any] = {}
    """Defaults that replace those of the job template."""
    concurrency_limit: int | None = Field(default=None, ge=1)
    """Largest number of runs at once; None to keep the pool's own."""

    @field_validator("variables", mode="before")
    @classmethod
    def _none(cls, variables: object) -> object:
        """Read `variables:` that holds only comments as an empty mapping."""
        return {} if variables is None else variables

    def of_type(self, kind: PoolType) -> Self:
        """Return this pool with another type; variables belong to the job template of one type, so they are dropped."""
        if kind == self.type:
            return self
        return self.model_copy(update={"type": kind, "variables": {}})


class Recovery(_Section):
    """Automatic recovery of runs that crash, wait too long or are lost."""

    requeues: int = Field(default=3, ge=0, le=20)
    """The number of times that a crashed run is started again."""
    # Longer than the three minutes between heartbeats: a run that only seemed dead sends one in this time and is
    # not started a second time.
    restart_minutes: int = Field(default=4, ge=4)
    """Minutes between the crash and the new start."""
    # Less than the hour for which a waiting run keeps its slot (`grace_period_seconds` in prefect.yaml).
    pending_minutes: int = Field(default=30, ge=1, le=55)
    """Minutes that a pod may wait for its image or a node before its run is ended."""
    # A run sends a heartbeat every three minutes; three may be missed.
    zombie_minutes: int = Field(default=15, ge=9)
    """Minutes without a heartbeat after which a run counts as crashed."""


class Kubernetes(_Section):
    """The cluster, if the environment does not name it."""

    namespace: str | None = Field(default=None, min_length=1)
    """Namespace of workers and runs; None for that of the current context, or of this pod."""


class Events(_Section):
    """Reactions to uploads."""

    quiet_seconds: float = Field(default=30, ge=1, le=3600)
    """Seconds between the last upload below a root and the start of a run."""
    longest_wait_seconds: float = Field(default=300, ge=1, le=86_400)
    """Longest time in seconds between the first upload and the start of a run, even if uploads continue."""
    check_exports: bool = False
    """If set, a new export in `staging_area` is checked and the findings are reported."""
    sweep_minutes: int | None = Field(default=None, ge=5, le=1440)
    """Minutes between searches for pictures that no event announced; None for only every night."""
    sns_topics: tuple[str, ...] = ()
    """ARNs of the only topics whose messages are accepted and whose subscriptions are confirmed."""
    sqs_queue: Annotated[str, AfterValidator(_endpoint)] | None = None
    """Address of the queue that is read; None for no queue."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.longest_wait_seconds < self.quiet_seconds:
            raise ValueError(
                "longest_wait_seconds is less than quiet_seconds: expected at least as much"
            )
        return self


Occasion = Literal["failed", "failed_images", "models", "silence"]


class Notification(_Section):
    """A recipient of messages about runs."""

    block: str = Field(pattern="^[a-z0-9-]+/[a-z0-9-]+$")
    """Type and name of a saved notification block, such as `slack-webhook/lab`; it holds the secret address."""
    about: tuple[Occasion, ...] = Field(
        default=("failed", "failed_images", "models", "silence"), min_length=1
    )
    """Failed runs; runs that could not read some pictures; models promoted or refused; no run for a long time."""


class Notifications(_Section):
    """Recipients of messages about runs; by default there are none."""

    to: tuple[Notification, ...] = ()
    silent_days: int = Field(default=3, ge=1, le=365)
    """Days without a successful detection after which a message is sent."""


class Site(_Section):
    """The configuration of one Prefect server."""

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
        tidy = tuple(join_key(prefix) for prefix in prefixes)
        if len(set(tidy)) < len(tidy):
            raise ValueError("a root is named twice")
        return tidy

    def over(self, overrides: "Overrides") -> Self:
        """Return this site with the values of the command line in place of the file's.

        Raises:
            ValidationError: If an override can't be used.
        """
        given = {
            name: value
            for name in ("bucket", "folder", "endpoint_url")
            if (value := getattr(overrides, name)) is not None
        }
        # Values that neither gives stay unset: a saved block then keeps its own.
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
    """Values of the command line that replace those of the file; None if not given.

    Attributes:
        bucket: Name of the bucket.
        folder: Folder in the bucket.
        endpoint_url: Address of the S3 server.
        pools: Type of all pools.
    """

    bucket: str | None = None
    folder: str | None = None
    endpoint_url: str | None = None
    pools: PoolType | None = None


def read_site(config: Path | None, overrides: Overrides = Overrides()) -> Site:
    """Read the site file.

    Args:
        config: The file; None for `site.yaml` in `deployments_folder()`.
        overrides: Values that replace those of the file.

    Raises:
        PollenError: If there is no such file, or it can't be used; the message names file and field.
    """
    path = config if config is not None else deployments_folder() / SITE_FILE
    try:
        return _validated(path).over(overrides)
    except ValidationError as error:
        raise PollenError(f"the command line and {path} together: {_faults(error)}") from error


def deployments_folder() -> Path:
    """Find the folder `deployments` of the application: job templates, automations, `site.yaml`.

    Raises:
        PollenError: If it is not found.
    """
    application = os.environ.get(APP_DIR)
    if application:
        folder = Path(application) / "deployments"
        if not folder.is_dir():
            raise PollenError(
                f"{APP_DIR} is {application}, which has no folder 'deployments': set it to the "
                "folder with prefect.yaml"
            )
        return folder
    for place in (Path(__file__).parents[1], Path.cwd()):
        folder = place / "deployments"
        # In site-packages, a folder of that name may belong to another project.
        if (folder / SITE_FILE).is_file():
            return folder
    raise PollenError(
        f"the folder 'deployments' with {SITE_FILE} is neither next to this program nor in {Path.cwd()}: run this in a "
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
    """Describe the errors field by field, without the values, which may be keys."""
    faults = []
    for each in error.errors(include_url=False, include_input=False):
        field = ".".join(map(str, each["loc"])) or "the file"
        if each["type"] == "extra_forbidden":
            faults.append(f"'{field}' is not a setting; check its spelling and its indentation")
        else:
            faults.append(f"{field}: {each['msg'].removeprefix('Value error, ')}")
    return "; ".join(faults)
