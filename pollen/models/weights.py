"""Read weights without running code that they hold.

A `.pt` file is a pickle, and a pickle may call anything. A hash recorded beside the file protects
against damage only: whoever can write the file can write the hash. So every file is read with
PyTorch's restricted loader, which builds nothing but the layers of PyTorch and Ultralytics.
"""

import os
from pathlib import Path
from typing import Any

from pollen.models.card import ModelError


def quiet_ultralytics(scratch: Path) -> None:
    """Import Ultralytics so that it stays offline, installs nothing and unpickles no code.

    Its switches are environment variables that it reads at import, so they are set before it.

    Args:
        scratch: Folder for its settings, instead of the home folder.

    Raises:
        ModelError: If PyTorch is too old for the restricted loader.
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
    if not loader._SafeLoad.SUPPORTED:
        # Ultralytics would fall back to the loader that runs code, without a warning.
        raise ModelError("this PyTorch can't read weights safely: install PyTorch 2.6 or newer")


def load_yolo(path: Path) -> Any:  # noqa: ANN401  (Ultralytics gives no types)
    """Return the Ultralytics model in a file. Call `quiet_ultralytics` before.

    Raises:
        ModelError: If the file can't be loaded as a model, or holds more than layers.
    """
    from ultralytics.models import YOLO

    try:
        return YOLO(path)
    except Exception as error:
        raise not_loadable(path, error) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return everything that Ultralytics saved in a `.pt` file. Call `quiet_ultralytics` before.

    Raises:
        ModelError: If the file can't be loaded, or holds more than layers and numbers.
    """
    from ultralytics.nn import tasks

    load: Any = tasks.torch_safe_load
    try:
        checkpoint, _ = load(path, safe_only=True)
    except Exception as error:
        raise not_loadable(path, error) from error
    if not isinstance(checkpoint, dict) or not (checkpoint.get("ema") or checkpoint.get("model")):
        raise ModelError(f"{path} holds no model: choose a .pt file that Ultralytics wrote")
    return checkpoint


def load_state(path: Path) -> dict[str, Any]:
    """Return a state that was saved as numbers only, without any network.

    Raises:
        ModelError: If the file can't be loaded, or holds more than numbers.
    """
    import torch

    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise not_loadable(path, error) from error
    return state


def not_loadable(path: Path, error: Exception) -> ModelError:
    """Return the error for a file that can't be loaded, in one sentence.

    Messages of Ultralytics end with advice that does not apply here; the first line says what happened.
    """
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if "outside the supported" in reason or "Weights only load failed" in reason:
        # Both loaders report code like files that are no checkpoint at all.
        reason = "it is no checkpoint, or it asks for code that is no layer of a network; none of it was run"
    return ModelError(
        f"{path} can't be loaded as a YOLO model ({reason}): choose a .pt file that Ultralytics wrote, or publish the "
        "model again"
    )
