"""Running the layers of a model: OpenVINO on a CPU, PyTorch on a GPU (or if asked for).

Both give the raw head output of single tiles; `pollen.detection.decoding` turns it into grains. Heavy
libraries are imported inside functions: on a CPU with a prepared model torch is never loaded.
"""

import json
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.detection.threads import keep_to_quota
from pollen.models.card import ModelCard, ModelError, check_weights, sha256_of
from pollen.models.weights import load_yolo, quiet_ultralytics

#: Tiles per model call on a GPU; shorter batches are padded to it, so that every call is alike.
#: On a CPU larger calls are no faster, and padding would cost as much as tiles do.
GPU_BATCH, CPU_BATCH = 16, 1

#: One thread of a process prepares a model, the others wait for it.
_preparing = threading.Lock()

#: Takes the raw output of a tile: `(number of the tile, raw, prototypes)`.
Consumer = Callable[[int, FloatArray, FloatArray | None], None]


@dataclass(frozen=True)
class ModelFacts:
    """Facts that the weights themselves state.

    Attributes:
        names: Class names by number.
        task: `segment` if the model makes masks.
    """

    names: dict[int, str]
    task: Literal["detect", "segment"]


class Backend(Protocol):
    """Runs the layers of one model."""

    facts: ModelFacts
    batch: int

    def run(self, tiles: Sequence[NDArray[np.uint8]], consume: Consumer) -> None:
        """Run `(tile_px, tile_px, 3)` uint8 RGB tiles and hand each raw output to `consume`.

        The arrays given to `consume` are only valid during the call.
        """
        ...


class OpenVinoBackend:
    """A model on the CPU, through OpenVINO, in 32-bit floating point.

    Tiles run one by one in parallel streams rather than in batches: that is as fast on a CPU, and
    the result of a tile does not depend on its neighbours in a batch.
    """

    batch = 16

    def __init__(self, weights: Path, card: ModelCard, cache: Path) -> None:
        """Prepare the model, or take it from `cache` if it was prepared before."""
        import openvino as ov

        folder = prepared_openvino(weights, card, cache)
        facts = json.loads((folder / "facts.json").read_text())
        self.facts = ModelFacts(
            {int(number): name for number, name in facts["names"].items()}, facts["task"]
        )
        core = ov.Core()
        # No CACHE_DIR: it saves 0.1 s of 0.3, and OpenVINO takes damaged files from it unchecked.
        steps = ov.preprocess.PrePostProcessor(core.read_model(folder / "model.xml"))
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
        # Without the precision hint OpenVINO computes in bfloat16 if the processor can, and
        # counts would differ between machines.
        hints: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads := keep_to_quota():
            hints["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(steps.build(), "CPU", hints)
        self._queue = ov.AsyncInferQueue(compiled)

    def run(self, tiles: Sequence[NDArray[np.uint8]], consume: Consumer) -> None:
        """See `Backend`."""
        failures: list[Exception] = []

        def finished(request: Any, number: int) -> None:  # noqa: ANN401  (OpenVINO gives no types)
            try:
                raw = request.get_output_tensor(0).data[0]
                prototypes = (
                    request.get_output_tensor(1).data[0] if self.facts.task == "segment" else None
                )
                consume(number, raw, prototypes)
            except Exception as error:  # noqa: BLE001  (raised again below, in the caller's thread)
                failures.append(error)

        self._queue.set_callback(finished)
        try:
            for number, tile in enumerate(tiles):
                self._queue.start_async(tile[None], number)
        finally:
            self._queue.wait_all()
        if failures:
            raise failures[0]


class TorchBackend:
    """A model in PyTorch, on a GPU in half precision unless asked otherwise."""

    def __init__(
        self, weights: Path, card: ModelCard, scratch: Path, *, device: str, half: bool
    ) -> None:
        """Load the weights, after checking their hash.

        Raises:
            ModelError: If the weights are missing, altered or no model of ours, or if this PyTorch
                can't use the GPU.
        """
        check_weights(weights, card)
        quiet_ultralytics(scratch)
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError(
                f"PyTorch {torch.__version__} can't use the GPU of this machine: install a PyTorch made for its "
                "driver, or set device: cpu"
            )
        keep_to_quota(torch)
        self._torch = torch
        self._device = torch.device(device)
        self._type = torch.float16 if half else torch.float32
        self.batch = GPU_BATCH if device == "cuda" else CPU_BATCH
        with tempfile.TemporaryDirectory(prefix="pollen-weights-") as folder:
            yolo, self.facts = _load(weights, Path(folder))
        self._model = yolo.model.fuse(verbose=False).to(self._device, self._type).eval()
        self._tile_px = card.tile_px

    def run(self, tiles: Sequence[NDArray[np.uint8]], consume: Consumer) -> None:
        """See `Backend`."""
        for start in range(0, len(tiles), self.batch):
            part = tiles[start : start + self.batch]
            stack = np.zeros((self.batch, self._tile_px, self._tile_px, 3), np.uint8)
            stack[: len(part)] = part
            raw, prototypes = self._forward(stack)
            for number in range(len(part)):
                consume(
                    start + number, raw[number], None if prototypes is None else prototypes[number]
                )

    def _forward(self, stack: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray | None]:
        """Return raw output and prototypes of a full batch."""
        torch = self._torch
        with torch.inference_mode():
            images = (
                torch.from_numpy(stack).to(self._device).permute(0, 3, 1, 2).to(self._type) / 255
            )
            output = self._model(images)[0]
        if self.facts.task == "segment":
            return output[0].float().cpu().numpy(), output[1].float().cpu().numpy()
        return output.float().cpu().numpy(), None


def _load(weights: Path, scratch: Path) -> tuple[Any, ModelFacts]:
    """Load an Ultralytics model and return it with its class names and task.

    Args:
        weights: The file.
        scratch: An empty folder.

    Raises:
        ModelError: If it can't be loaded, or neither detects nor segments.
    """
    yolo = load_yolo(weights, scratch)
    return yolo, ModelFacts(dict(yolo.names), yolo.task)


def prepared_openvino(weights: Path, card: ModelCard, cache: Path) -> Path:
    """Return the folder with the model in OpenVINO form, made once per weights and library version.

    The folder appears whole or not at all, and its files are checked before use.

    Raises:
        ModelError: If the weights are missing, altered, or no model of ours.
    """
    from openvino import __version__ as version

    folder = (
        cache
        / "openvino"
        / f"{card.sha256[:16]}-{card.tile_px}-{version.split('-', maxsplit=1)[0]}"
    )
    with _preparing:
        if not _is_whole(folder):
            check_weights(weights, card)
            quiet_ultralytics(cache / "ultralytics")
            _prepare(weights, card, folder)
    return folder


def _prepare(weights: Path, card: ModelCard, folder: Path) -> None:
    """Make the folder next to its place, then move it there whole, replacing a damaged one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="making-") as scratch:
        made = _export(weights, card.tile_px, Path(scratch))
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:  # another process was faster: its result is as good
            if not _is_whole(folder):
                raise


def _export(weights: Path, tile_px: int, scratch: Path) -> Path:
    """Convert weights to OpenVINO in `scratch` and describe the result in `facts.json`."""
    yolo, facts = _load(weights, scratch)
    try:
        with warnings.catch_warnings():
            # The exporter traces the model in ways that torch calls old or risky; no user can act on it.
            warnings.simplefilter("ignore")
            exported = Path(
                yolo.export(format="openvino", imgsz=tile_px, batch=1, dynamic=False, verbose=False)
            )
    except Exception as error:
        raise ModelError(
            f"{weights} can't be converted for this machine's CPU ({error}): set backend: torch"
        ) from error
    made = scratch / "made"
    made.mkdir()
    for suffix in (".xml", ".bin"):
        shutil.move(next(exported.glob(f"*{suffix}")), made / f"model{suffix}")
    digests = {name: sha256_of(made / name) for name in ("model.xml", "model.bin")}
    (made / "facts.json").write_text(
        json.dumps({"names": facts.names, "task": facts.task, "sha256": digests})
    )
    return made


def _is_whole(folder: Path) -> bool:
    """Return whether a prepared model is there and unaltered."""
    try:
        facts = json.loads((folder / "facts.json").read_text())
        return all(sha256_of(folder / name) == digest for name, digest in facts["sha256"].items())
    except (ModelError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
