"""Check that everything a run needs is present and intact: `python -m services.health`, the image's health command.

It asks no server: a Prefect or S3 server that is away is no reason to restart a container. `pollen doctor` checks
those.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import typer

from pollen import __version__
from pollen.models.card import ModelError
from tasks.models.resolve import bundled_model

HEALTHY, UNHEALTHY = 0, 1

#: Modules that runs and workers import. Large libraries come first: their errors name the cause.
MODULES = ("torch", "openvino", "cv2", "prefect_kubernetes", "flows.detect", "flows.train")

#: Variables that name the folders where libraries and runs write.
FOLDERS = (
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "POLLEN_CACHE_DIR",
    "PREFECT_HOME",
    "MPLCONFIGDIR",
    "YOLO_CONFIG_DIR",
)


def problems() -> Iterator[str]:
    """Yield the problems with which a run would fail here, one sentence each."""
    for name in FOLDERS:
        if folder := os.environ.get(name):
            yield from _unwritable(name, Path(folder))
    for module in MODULES:
        yield from _not_importable(module)
    try:
        bundled_model()
    except ModelError as error:
        yield f"The bundled model can't be used: {error}"


def main() -> int:
    """Print the problems, or that there are none; return the exit code."""
    found = list(problems())
    for problem in found:
        typer.echo(problem, err=True)
    if found:
        return UNHEALTHY
    revision = os.environ.get("POLLEN_REVISION", "unknown")
    typer.echo(f"Healthy: pollen {__version__}, revision {revision}")
    return HEALTHY


def _unwritable(name: str, folder: Path) -> Iterator[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield (
            f"The folder {folder} ({name}) can't be written to: {error.strerror}. "
            "Mount a volume there that user 1000 may write to"
        )


def _not_importable(module: str) -> Iterator[str]:
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        yield f"The module {module} can't be imported: {error}"


if __name__ == "__main__":
    sys.exit(main())
