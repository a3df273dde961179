"""Read a `.pt` file as plain data: numbers, text, tensors and inert records, never code.

A `.pt` file is a zip with a pickle and the bytes of its tensors. A pickle may name any function of any
library and call it. PyTorch's own restricted loader is not enough for files of Ultralytics: to build
their layers it must allow classes whose methods lead to `eval`. Here every name in the pickle stands
for an inert record, which holds its arguments and does nothing.
"""

import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pollen.models.card import ModelError

if TYPE_CHECKING:
    import torch

#: A model of 2 GB has some hundreds of layers; pickles of more than this are no checkpoints.
LARGEST_PICKLE_BYTES: Final = 64 * 2**20
_STORAGES: Final = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_TENSOR: Final = "torch._utils._rebuild_tensor_v2"
_PARAMETER: Final = "torch._utils._rebuild_parameter"
_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class Record:
    """Something that the pickle names: it holds what it was given, and does nothing.

    Attributes:
        name: The dotted name in the pickle.
        args: What it was to be called with.
        state: The attributes that it was to get.
    """

    name = ""

    def __init__(self, *args: object) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        """Keep the attributes, unused."""
        self.state = state

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes by name; empty if there are none."""
        return self.state if isinstance(self.state, dict) else {}


class _Table(dict[Any, Any]):
    """An ordered dictionary; attributes that hang on it are dropped."""

    def __setstate__(self, state: object) -> None:
        """Drop the attributes."""


class _Storage(Record):
    """The numbers of a storage: no tensor, for a pickle may change what it is given.

    Attributes:
        numbers: A tensor of one dimension.
    """

    def __init__(self, numbers: "torch.Tensor") -> None:
        super().__init__()
        self.numbers = numbers


class _InertUnpickler(pickle.Unpickler):
    """An unpickler that knows no class but dictionaries and records."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self._archive = archive
        self._folder = folder
        self._records: dict[str, type[Record]] = {}
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> type:
        """Return a class that holds what it is given; no module is imported."""
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return _Table
        return self._records.setdefault(full, type("Record", (Record,), {"name": full}))

    def persistent_load(self, pid: Any) -> _Storage:  # noqa: ANN401  (a tuple, by PyTorch's convention)
        """Return the numbers of a storage."""
        import torch

        kind, storage, key, _, _ = pid
        if kind != "storage" or not str(key).isdecimal():
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if key not in self._storages:
            dtype = getattr(torch, _STORAGES[storage.name])
            raw = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
            numbers = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            self._storages[key] = _Storage(numbers)
        return self._storages[key]


def read_file(path: Path) -> Any:  # noqa: ANN401  (whatever was saved)
    """Return what was saved in a `.pt` file, as records and plain values.

    Raises:
        ModelError: If it is no file that PyTorch saved, or if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            _check_sizes(archive, pickled)
            return _InertUnpickler(archive, pickled.removesuffix("/data.pkl")).load()
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ModelError(
            f"{path} can't be loaded as a YOLO model ({type(error).__name__}: {error}; it is no checkpoint, or it is "
            f"damaged): choose a .pt file that Ultralytics wrote, or publish the model again"
        ) from error


def _check_sizes(archive: zipfile.ZipFile, pickled: str) -> None:
    """Refuse a file that unpacks to more than its own size, or whose pickle is larger than any model's."""
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ModelError("the file is compressed, which PyTorch never does")
    if archive.getinfo(pickled).file_size > LARGEST_PICKLE_BYTES:
        raise ModelError("the file holds more than a model")


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value with its records made tensors; containers are copied.

    Raises:
        ModelError: If it holds anything but numbers, text, tensors and containers of these.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(each) for each in value)
    if isinstance(value, Record):
        if value.name == _TENSOR:
            return _tensor(*value.args)
        if value.name == _PARAMETER and value.args:
            return plain(value.args[0])
        if value.name == "torch.Size" and len(value.args) == 1:
            return plain(value.args[0])
        raise ModelError(f"expected numbers and text, found '{value.name}'")
    raise ModelError(f"expected numbers and text, found '{type(value).__name__}'")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> "torch.Tensor":  # noqa: ANN401
    """Return a tensor of its own, whose numbers all lie in the storage."""
    import torch

    size, stride = plain(size), plain(stride)
    whole = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise ModelError("a tensor without numbers")
    numbers = storage.numbers
    if any(type(number) is not int or number < 0 for number in whole):
        raise ModelError("a tensor of an impossible shape")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) > numbers.numel() or (math.prod(size) and last >= numbers.numel()):
        raise ModelError("a tensor that is larger than its numbers")
    return torch.as_strided(numbers, size, stride, offset).clone()


def network_state(network: Record) -> dict[str, "torch.Tensor"]:
    """Return the parameters and buffers of a network's record, named as PyTorch names them."""
    found: dict[str, torch.Tensor] = {}
    _collect(network, "", found)
    return found


def _collect(layer: Record, prefix: str, found: dict[str, "torch.Tensor"]) -> None:
    held = layer.attributes
    passing = held.get("_non_persistent_buffers_set")
    names = passing.args[0] if isinstance(passing, Record) and passing.args else passing
    left_out = set(names) if isinstance(names, list | tuple | set) else set()
    for group in ("_parameters", "_buffers"):
        for name, value in _mapping(held.get(group)).items():
            if value is not None and name not in left_out:
                found[f"{prefix}{name}"] = plain(value)
    for name, child in _mapping(held.get("_modules")).items():
        if isinstance(child, Record):
            _collect(child, f"{prefix}{name}.", found)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
