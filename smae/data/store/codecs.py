"""Codecs of row arrays: values as they are, or joints as int16 steps of a quarter of a millimetre."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smae.errors import UnknownNameError
from smae.registry import nearest

STEP = 2.0**-12
"""Metres in a step of ``int16``: a power of two, so multiples of it are exact in float32."""
_UNKNOWN = np.int16(-(2**15))


class Codec(Protocol):
    """How rows are stored.

    Attributes:
        name: in settings and stores.
        dtype: NumPy type of stored values.
        reach: largest absolute value that can be stored.
    """

    name: str
    dtype: np.dtype[Any]
    reach: float

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """Return stored values [R, ...] of rows, and the largest error."""

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Decode stored values into ``out``."""


class Plain:
    """Values as they are."""

    reach = float("inf")

    def __init__(self, dtype: str) -> None:
        self.name, self.dtype = dtype, np.dtype(dtype)

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        return rows, 0.0

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        out[:] = stored


class Int16:
    """float32 metres as int16 steps of 2^-12 m, rounded to the nearest; NaN is -2^15.

    The error is half a step, 0.122 mm, at most; the sensor's own noise is several millimetres.
    """

    name, dtype, reach = "int16", np.dtype(np.int16), (2**15 - 1) * STEP

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        unknown = np.isnan(rows)
        steps = np.rint(rows * np.float32(1 / STEP))
        steps[unknown] = _UNKNOWN
        stored = steps.astype(np.int16)
        steps *= np.float32(STEP)
        steps -= rows
        np.abs(steps, out=steps)
        return stored, float(np.nanmax(steps)) if not unknown.all() else 0.0

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        np.multiply(stored, np.float32(STEP), out=out, dtype=np.float32)
        out[stored == _UNKNOWN] = np.nan


FLOAT32, UINT8 = Plain("float32"), Plain("uint8")
JOINT_CODECS: dict[str, Codec] = {"float32": FLOAT32, "int16": Int16()}
"""Codecs of joints; tracking states are stored as they are."""


def joint_codec(name: str) -> Codec:
    """Return the codec of joints called ``name``.

    Raises:
        UnknownNameError: no such codec.
    """
    if name not in JOINT_CODECS:
        known = ", ".join(JOINT_CODECS)
        raise UnknownNameError(f"unknown codec '{name}': expected one of {known}{nearest(name, JOINT_CODECS)}")
    return JOINT_CODECS[name]
