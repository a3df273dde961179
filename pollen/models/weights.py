"""Networks and their weights: read without running code, written so that plain Ultralytics loads them.

A hash recorded beside a file protects against damage only: whoever can write the file can write the
hash. So no file is given to Ultralytics as it is. It is read as plain data
(`pollen.models.checkpoint_file`), its numbers are put into a network that is built here, and what
Ultralytics opens is a file that was written here.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pollen.models.card import ModelError
from pollen.models.checkpoint_file import Record, network_state, plain, read_file

if TYPE_CHECKING:
    import torch

#: Architectures that Ultralytics describes without any download, as detector or with outlines.
ARCHITECTURE: Final = re.compile(r"yolo(v8|11|26)[nsmlx](?P<outlines>-seg)?\.yaml")
#: The same and older families, by whose descriptions weights are read.
_DESCRIBED: Final = re.compile(r"yolo(v?\d+)[a-z]?(-[a-z0-9]+)*\.yaml")
#: Tasks by the class of an Ultralytics network; the first two are ours.
_TASKS: Final = {
    "DetectionModel": "detect",
    "SegmentationModel": "segment",
    "ClassificationModel": "classify",
    "PoseModel": "pose",
    "OBBModel": "obb",
}
#: Arguments of a training that weights keep: none names a path or this machine.
_KEPT_ARGUMENTS: Final = ("task", "mode", "imgsz", "single_cls", "epochs", "seed")


@dataclass(frozen=True)
class Weights:
    """A network as plain data.

    Attributes:
        architecture: The name of its description, such as `yolov8n-seg.yaml`.
        task: `detect` or `segment`.
        names: Class names by number.
        state: Parameters and buffers by name.
        arguments: Arguments of its training that say nothing of a machine.
        date: When it was saved, as the file says; empty if it does not.
        version: The version of Ultralytics that saved it, likewise.
        source: The file, for messages.
    """

    architecture: str
    task: str
    names: dict[int, str]
    state: dict[str, "torch.Tensor"]
    arguments: dict[str, Any]
    date: str = ""
    version: str = ""
    source: str = "the network"

    def network(self) -> Any:  # noqa: ANN401  (Ultralytics gives no types)
        """Return the network with these weights. Call `quiet_ultralytics` before.

        Raises:
            ModelError: If the weights do not fit the architecture.
        """
        from ultralytics.nn import tasks

        kinds: dict[str, Any] = {
            "detect": tasks.DetectionModel,
            "segment": tasks.SegmentationModel,
        }
        try:
            network = kinds[self.task](self.architecture, nc=len(self.names), verbose=False)
            network.load_state_dict(self.state)
        except (RuntimeError, OSError) as error:
            raise ModelError(
                f"{self.source} does not fit {self.architecture} with {len(self.names)} classes: choose weights as "
                "Ultralytics wrote them, neither fused nor of a changed architecture"
            ) from error
        network.names, network.task = dict(self.names), self.task
        return network


def quiet_ultralytics(scratch: Path) -> None:
    """Import Ultralytics so that it stays offline, installs nothing and evaluates no text of a model.

    Its switches are environment variables that it reads at import, so they are set before it.

    Args:
        scratch: Folder for its settings, instead of the home folder.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        YOLO_OFFLINE="true",
        YOLO_AUTOINSTALL="false",
        YOLO_VERBOSE="false",
        ULTRALYTICS_SAFE_LOAD="true",
    )
    os.environ.setdefault("YOLO_CONFIG_DIR", str(scratch))
    from ultralytics.nn import tasks

    loader: Any = tasks
    loader.SAFE_LOAD = True  # the variable came too late if the library was imported before


def read_weights(path: Path) -> Weights:
    """Read the network in a `.pt` file, a finished model or a checkpoint.

    Raises:
        ModelError: If the file holds no network of YOLOv8, YOLO11 or YOLO26 that detects or segments.
    """
    return weights_in(read_file(path), path)


def weights_in(saved: object, path: Path) -> Weights:
    """Return the network in what `read_file` returned.

    Args:
        saved: What the file holds.
        path: The file, for messages.

    Raises:
        ModelError: See `read_weights`.
    """
    holder = saved if isinstance(saved, dict) else {}
    network = holder.get("ema") or holder.get("model")
    if not isinstance(network, Record):
        raise ModelError(f"{path} holds no model: choose a .pt file that Ultralytics wrote")
    task = _TASKS.get(network.name.removeprefix("ultralytics.nn.tasks."), "")
    if task not in ("detect", "segment"):
        raise ModelError(
            f"{path}: the model is made to '{task or network.name}'; expected a detection or a segmentation model"
        )
    try:
        description = plain(network.attributes.get("yaml"))
        names = _names(plain(network.attributes.get("names")))
        state = network_state(network)
        arguments = {
            name: plain(value)
            for name, value in dict(holder.get("train_args") or {}).items()
            if name in _KEPT_ARGUMENTS
        }
    except (ModelError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise ModelError(
            f"{path} can't be loaded as a YOLO model ({error}): choose a .pt file that Ultralytics wrote"
        ) from error
    architecture = Path(str((description or {}).get("yaml_file", ""))).name
    if not _DESCRIBED.fullmatch(architecture):
        raise ModelError(
            f"{path} is of an architecture that is not known here ('{architecture}'): expected one that Ultralytics "
            "describes, such as yolov8n-seg.yaml"
        )
    return Weights(
        architecture,
        task,
        names,
        state,
        arguments,
        _text(holder.get("date")),
        _text(holder.get("version")),
        str(path),
    )


def _names(given: object) -> dict[int, str]:
    """Return class names by number, whether they were saved as a list or by number."""
    found = dict(enumerate(given)) if isinstance(given, list | tuple) else given
    if not isinstance(found, dict) or sorted(found) != list(range(len(found))) or not found:
        raise ModelError("its classes have no names")
    return {number: str(found[number]) for number in sorted(found)}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def load_yolo(path: Path, scratch: Path) -> Any:  # noqa: ANN401  (Ultralytics gives no types)
    """Return the Ultralytics model in a file. Call `quiet_ultralytics` before.

    Args:
        path: The file.
        scratch: Where the file that Ultralytics opens is written; it exports beside that.

    Raises:
        ModelError: If the file holds no network that is known here.
    """
    from ultralytics.models import YOLO

    return YOLO(write_weights(read_weights(path), scratch / "weights.pt", half=False))


def write_weights(weights: Weights, path: Path, *, half: bool = True) -> Path:
    """Write weights as a file that plain `YOLO(path)` loads: without optimiser, paths or names of machines.

    Equal weights give equal files.

    Args:
        weights: What to write.
        path: The file; Ultralytics can't open one with an apostrophe in its path.
        half: Whether to write numbers of 16 bits, as Ultralytics does at the end of a training.

    Returns:
        `path`.

    Raises:
        ModelError: If the weights do not fit the architecture.
    """
    import torch
    from ultralytics import __version__

    if "'" in str(path):  # Ultralytics would leave it out, and open another file
        raise ModelError(
            f"{path} has an apostrophe in its path: set TMPDIR to a folder without one"
        )
    network = weights.network()
    network.criterion, network.args = None, weights.arguments
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    saved = {
        "epoch": -1,
        "best_fitness": None,
        "model": (network.half() if half else network).eval(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": weights.arguments,
        "train_metrics": {},
        "train_results": {},
        "date": weights.date,
        "version": weights.version or __version__,
        "license": "AGPL-3.0",
    }
    part = openable(path).with_suffix(".part")
    with part.open("wb") as file:  # given a path, torch writes the path's name into the file
        torch.save(saved, file)
    return part.replace(path)


def openable(path: Path) -> Path:
    """Return `path` if Ultralytics opens the file of that name: it leaves apostrophes out of names.

    Raises:
        ModelError: If it would open another file.
    """
    if "'" in str(path):
        raise ModelError(
            f"{path} has an apostrophe in its path: set TMPDIR to a folder without one"
        )
    return path


def load_state(path: Path) -> dict[str, Any]:
    """Return a state that was saved as numbers only, without any network.

    Raises:
        ModelError: If the file can't be loaded, or holds more than numbers.
    """
    try:
        state = plain(read_file(path))
    except RecursionError as error:
        raise ModelError(f"{path} is no state of a training") from error
    if not isinstance(state, dict):
        raise ModelError(f"{path} is no state of a training: expected the file that it saved")
    return state
