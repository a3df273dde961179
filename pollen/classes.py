"""The one class schema: viable and non-viable grains."""

from collections.abc import Mapping
from enum import IntEnum


class GrainClass(IntEnum):
    """Class of a grain under Alexander stain; the value is the class number in YOLO labels.

    Alexander stain tells aborted from non-aborted grains, so `VIABLE` means *stained viable*,
    not *fertile*.
    """

    VIABLE = 0
    NON_VIABLE = 1

    @property
    def label(self) -> str:
        """The name used in tables, labels and model metadata: `viable` or `non_viable`."""
        return self.name.lower()


def parse_class(name: str) -> GrainClass:
    """Read a class name as people and exports write it (`Non-viable`, `non viable`, ...).

    Raises:
        ValueError: If the name is neither of the two classes.
    """
    folded = (
        name.strip().lower().replace("-", "_").replace(" ", "_").replace("nonviable", "non_viable")
    )
    for grain_class in GrainClass:
        if folded == grain_class.label:
            return grain_class
    expected = " or ".join(f"'{grain_class.label}'" for grain_class in GrainClass)
    raise ValueError(f"unknown class '{name}': expected {expected}")


def class_order(names: Mapping[int, str]) -> tuple[GrainClass, ...]:
    """Map a model's class numbers to grain classes by name, never by number.

    Args:
        names: Class names by number, as stored in a model's metadata.

    Raises:
        ValueError: If a name is unknown, or a class is missing or named twice.
    """
    order = tuple(parse_class(names[number]) for number in sorted(names))
    if sorted(order) != sorted(GrainClass):
        raise ValueError(f"expected the classes viable and non_viable once each, got {dict(names)}")
    return order
