"""Keep Ultralytics quiet: no network, no installs, its settings in a folder of ours."""

import os
from pathlib import Path


def settle_ultralytics(folder: Path) -> None:
    """Set what Ultralytics reads at import; call before the first import.

    Args:
        folder: For its settings file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
