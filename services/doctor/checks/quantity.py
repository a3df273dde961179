"""Amounts in the notation of Kubernetes: `500m`, `12Gi`, `1e3`."""

import re
from decimal import Decimal
from typing import Final

_FACTORS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
_AMOUNT: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")


def amount(text: str) -> Decimal:
    """Return the number that an amount stands for.

    Raises:
        ValueError: If it is not an amount.
    """
    found = _AMOUNT.fullmatch(str(text).strip())
    if found is None or found[2] not in _FACTORS:
        raise ValueError(f"'{text}' is not an amount: expected for example 500m or 12Gi")
    return Decimal(found[1]) * _FACTORS[found[2]]
