"""How the numbers of a row array are kept: as they are, or joints as whole steps of a quarter of a millimetre."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smae.errors import UnknownNameError
from smae.registry import nearest

STEP = 2.0**-12
"""Metres in a step of ``int16``: a power of two, so that a step times any number of steps is exact in float32."""
_UNKNOWN = np.int16(-(2**15))


class Codec(Protocol):
    """A way to keep rows.

    Attributes:
        name: how settings and stores call it.
        dtype: NumPy type of what is kept.
        reach: largest size of a number that can be kept.
    """

    name: str
    dtype: np.dtype[Any]
    reach: float

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """Return what is kept of rows, and the largest error that this makes."""
        ...

    def decode(self, kept: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the rows of which ``kept`` was kept into ``out``."""
        ...


class Plain:
    """Numbers as they are."""

    reach = float("inf")

    def __init__(self, dtype: str) -> None:
        self.name, self.dtype = dtype, np.dtype(dtype)

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See ``Codec.encode``."""
        return rows, 0.0

    def decode(self, kept: NDArray[Any], out: NDArray[Any]) -> None:
        """See ``Codec.decode``."""
        out[:] = kept


class Int16:
    """float32 metres as int16 steps of 2^-12 m, rounded to the nearest; NaN is -2^15.

    The error is half a step, 0.122 mm, at most; the sensor's own noise is several millimetres.
    """

    name, dtype, reach = "int16", np.dtype(np.int16), (2**15 - 1) * STEP

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See ``Codec.encode``; numbers within ``reach``."""
        unknown = np.isnan(rows)
        steps = np.rint(rows * np.float32(1 / STEP))
        steps[unknown] = _UNKNOWN
        kept = steps.astype(np.int16)
        steps *= np.float32(STEP)
        steps -= rows
        np.abs(steps, out=steps)
        return kept, float(np.nanmax(steps)) if not unknown.all() else 0.0

    def decode(self, kept: NDArray[Any], out: NDArray[Any]) -> None:
        """See ``Codec.decode``."""
        np.multiply(kept, np.float32(STEP), out=out, dtype=np.float32)
        out[kept == _UNKNOWN] = np.nan


FLOAT32, UINT8 = Plain("float32"), Plain("uint8")
JOINT_CODECS: dict[str, Codec] = {"float32": FLOAT32, "int16": Int16()}
"""Ways to keep joints; tracking states are kept as they are."""


def joint_codec(name: str) -> Codec:
    """Return the way to keep joints that is called ``name``.

    Raises:
        UnknownNameError: no such way.
    """
    if name not in JOINT_CODECS:
        known = ", ".join(JOINT_CODECS)
        raise UnknownNameError(f"unknown codec '{name}': expected one of {known}{nearest(name, JOINT_CODECS)}")
    return JOINT_CODECS[name]
