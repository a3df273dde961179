"""The status of `pollen events`: counts, and what is wrong. It has no secrets and no names of files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from jinja2 import Environment
from starlette.responses import HTMLResponse, JSONResponse, Response

from services.events.bursts import Burst
from services.events.counters import Counters

_IN_THE_LOG: Final = "the log says why"


@dataclass(frozen=True)
class Waiting:
    """Uploads that are not posted yet."""

    root: str
    kind: str
    uploads: int
    first: str
    last: str


@dataclass(frozen=True)
class ReceiverStatus:
    """Everything that the status page shows."""

    roots: tuple[str, ...] | None
    requests: int
    refused: dict[str, int]
    uploads: dict[str, int]
    passed: dict[str, int]
    posted: int
    failed_posts: int
    trouble: str | None
    last_upload: str | None
    last_post: str | None
    waiting: tuple[Waiting, ...]
    queue: dict[str, Any] | None = field(default=None)


def status_of(
    counters: Counters,
    refused: Mapping[str, int],
    roots: tuple[str, ...] | None,
    pending: tuple[Burst, ...],
    queue: dict[str, Any] | None,
) -> ReceiverStatus:
    """Return the status to show.

    Args:
        counters: Counters of the receiver.
        refused: Requests and connections that were refused, by reason.
        roots: Names of the watched roots; None while they are not known.
        pending: Bursts that are not posted yet.
        queue: Counters of the queue; None if no queue is read.
    """
    return ReceiverStatus(
        roots=roots,
        requests=counters.requests,
        refused=dict(refused),
        uploads=dict(counters.uploads),
        passed=dict(counters.passed),
        posted=counters.posted,
        failed_posts=counters.failed_posts,
        trouble=counters.trouble,
        last_upload=_moment(counters.last_upload),
        last_post=_moment(counters.last_post),
        waiting=tuple(
            Waiting(
                each.root.name,
                each.kind,
                each.uploads,
                str(_moment(each.first)),
                str(_moment(each.last)),
            )
            for each in pending
        ),
        queue=queue,
    )


def without_reasons(status: ReceiverStatus) -> ReceiverStatus:
    """Return a status for everybody: it says that something is wrong, but not what."""
    queue = status.queue
    if queue is not None and queue.get("trouble") is not None:
        queue = {**queue, "trouble": _IN_THE_LOG}
    return replace(status, trouble=status.trouble and _IN_THE_LOG, queue=queue)


def page(status: ReceiverStatus, *, html: bool) -> Response:
    """Return the status as JSON, or as a page for people."""
    headers = {"Cache-Control": "no-store"}
    if html:
        return HTMLResponse(_PAGE.render(status=status), headers=headers)
    return JSONResponse(asdict(status), headers=headers)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


_PAGE: Final = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="10">
<title>pollen events</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em }
  th { text-align: left; font-weight: normal; color: #555; padding-right: 2em; vertical-align: top }
</style>
<h1>pollen events</h1>
{% macro counts(found) %}
{% for name, number in found.items() if number is not none %}
{{ number }} {{ name }}{{ ", " if not loop.last }}
{% else %}
none
{% endfor %}
{% endmacro %}
<p>{% if status.trouble %}The Prefect server accepts no events: {{ status.trouble }}. They are kept and tried again.
{% elif status.roots is none %}It is not known yet which bucket is watched.
{% else %}All is well.{% endif %}</p>
<table>
<tr><th>watched<td>{{ (status.roots or []) | join(", ") or "not known yet" }}
<tr><th>reported uploads<td>{{ counts(status.uploads) }}
<tr><th>the latest<td>{{ status.last_upload or "none yet" }}
<tr><th>waiting to be posted<td>
{% for each in status.waiting %}
{{ each.root }}: {{ each.uploads }} {{ each.kind }}, the latest {{ each.last }}<br>
{% else %}nothing
{% endfor %}
<tr><th>events posted<td>{{ status.posted }}, the latest {{ status.last_post or "none yet" }}
<tr><th>attempts that failed<td>{{ status.failed_posts }}
<tr><th>notices that start nothing<td>{{ counts(status.passed) }}
<tr><th>requests<td>{{ status.requests }}
<tr><th>refused<td>{{ counts(status.refused) }}
{% if status.queue is not none %}
<tr><th>queue<td>{{ counts(status.queue) }}
{% endif %}
</table>
""")
