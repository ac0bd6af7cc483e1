"""Types of arrays, by what one element is."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
#: Wrists, as `repstream.recordings.axes.SIDE_CODES` numbers them.
SideArray = npt.NDArray[np.int8]
TextArray = npt.NDArray[np.str_]
#: Text, and None where there is none.
ObjectArray = npt.NDArray[np.object_]
AnyArray = npt.NDArray[Any]
