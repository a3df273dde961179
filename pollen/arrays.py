"""Types of arrays, named by their elements; docstrings give shapes and the order of axes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Pixels of a picture: (height, width, 3) uint8, RGB, unless a docstring says otherwise.
Pixels = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
#: Either kind of float, where formulas work for both.
AnyFloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
