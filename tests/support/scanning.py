"""Looking for secrets, with detect-secrets and all of its detectors."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

_DIGEST = "Hex High Entropy String"


def secrets_in(files: Iterable[Path], made_up: Collection[str] = ()) -> list[str]:
    """What in these files looks like a secret: file, line and kind of each.

    A SHA-256 in full is none: models, pictures and packages are known by theirs.

    Args:
        files: Where to look.
        made_up: Values that were invented for tests and open nothing.
    """
    found = []
    with default_settings():
        for file in files:
            for secret in scan_file(str(file)):
                value = secret.secret_value or ""
                if value in made_up or (secret.type == _DIGEST and len(value) == 64):
                    continue
                found.append(f"{file}:{secret.line_number}: {secret.type}")
    return found


def leaks(needles: Sequence[str], texts: dict[str, bytes]) -> list[str]:
    """Which of the texts hold one of the secrets."""
    assert all(len(needle) >= 16 for needle in needles)
    return [
        name for name, text in texts.items() if any(needle.encode() in text for needle in needles)
    ]
