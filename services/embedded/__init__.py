"""Real servers on this machine for the duration of a command or a test session.

`EmbeddedS3` is a SeaweedFS, `EmbeddedPrefect` a Prefect server. Both listen on loopback only, send no telemetry, read
none of the user's own settings, and leave nothing behind, even if their owner is killed.
"""

from services.embedded.prefect_server import EmbeddedPrefect
from services.embedded.s3 import EmbeddedS3
from services.embedded.server import EmbeddedServerError

__all__ = ["EmbeddedPrefect", "EmbeddedS3", "EmbeddedServerError"]
