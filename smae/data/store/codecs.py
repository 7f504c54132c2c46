"""Codecs of row arrays: numbers unchanged, or joints as multiples of a quarter of a millimetre."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.errors import UnknownNameError
from smae.registry import nearest

STEP = 2.0**-12
"""Metres in a step of ``int16``: with a power of two, every multiple is exact in float32."""
_NAN = np.int16(-(2**15))


class Codec:
    """Rows stored unchanged; the base of the others.

    Attributes:
        name: as in settings and in the store's attributes.
        dtype: NumPy type of the stored numbers.
        reach: largest absolute value that can be stored.
    """

    reach = float("inf")

    def __init__(self, name: str) -> None:
        self.name, self.dtype = name, np.dtype(name)

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """Return the stored form of rows within ``reach``, and the largest error it makes."""
        return rows, 0.0

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the rows of a stored form into ``out``."""
        out[:] = stored


class Int16(Codec):
    """float32 metres as int16 multiples of 2^-12 m, rounded to the nearest; -2^15 stands for NaN.

    The error is at most half a step, 0.122 mm; the sensor's own noise is several millimetres.
    """

    reach = (2**15 - 1) * STEP

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        missing = np.isnan(rows)
        steps = np.rint(rows * np.float32(1 / STEP))
        steps[missing] = _NAN
        stored = steps.astype(np.int16)
        # In place from here on: this runs once a chunk, and the copies would leave the cache.
        steps *= np.float32(STEP)
        steps -= rows
        np.abs(steps, out=steps)
        if missing.all():
            return stored, 0.0
        return stored, float(np.nanmax(steps))

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        np.multiply(stored, np.float32(STEP), out=out, dtype=np.float32)
        out[stored == _NAN] = np.nan


FLOAT32, UINT8 = Codec("float32"), Codec("uint8")
JOINT_CODECS: dict[str, Codec] = {"float32": FLOAT32, "int16": Int16("int16")}
"""Codecs of ``joints``; ``state`` is always ``UINT8``."""


def joint_codec(name: str) -> Codec:
    """Return a codec of joints by name.

    Raises:
        UnknownNameError: no such codec.
    """
    if name not in JOINT_CODECS:
        known = ", ".join(JOINT_CODECS)
        raise UnknownNameError(f"unknown codec '{name}': expected one of {known}{nearest(name, JOINT_CODECS)}")
    return JOINT_CODECS[name]
