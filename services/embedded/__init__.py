"""Real servers on this machine for as long as a command or a test session runs.

``EmbeddedS3`` is a SeaweedFS, ``EmbeddedPrefect`` a Prefect server. Both listen on loopback only,
send no telemetry, read none of the user's own settings, and leave nothing behind: not when their
owner ends, and not when it is killed.
"""

from services.embedded.prefect_server import EmbeddedPrefect
from services.embedded.s3 import EmbeddedS3
from services.embedded.server import EmbeddedServerError

__all__ = ["EmbeddedPrefect", "EmbeddedS3", "EmbeddedServerError"]
