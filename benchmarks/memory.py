"""Peak memory of `pollen detect` at few and at many pictures, in processes of their own."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.pictures import folder_of, small_frames

FEW, MANY = 10, 1000
_CHILD = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def run() -> None:
    """Print both peaks and their ratio."""
    pictures = small_frames(10)
    few, many = (peak_mb(pictures, number) for number in (FEW, MANY))
    print(
        f"peak memory: {few:.0f} MB at {FEW} pictures, {many:.0f} MB at {MANY}: {many / few:.2f} x (budget 1.1)"
    )


def peak_mb(pictures: list[Path], number: int) -> float:
    """Return the peak resident memory of one run over `number` pictures, MB."""
    with tempfile.TemporaryDirectory(dir=pictures[0].parent) as scratch:
        source = folder_of(pictures, number, Path(scratch) / "in")
        command = [
            str(Path(sys.executable).with_name("pollen")),
            "detect",
            str(source),
            "--output",
            f"{scratch}/out",
        ]
        printed = subprocess.run(
            [sys.executable, "-c", _CHILD, *command], check=True, capture_output=True, text=True
        ).stdout
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return int(printed) / unit
