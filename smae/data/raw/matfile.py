"""Reads one real array from a MATLAB 5 file, as MATLAB writes with ``save -v6`` and ``-v7``; nothing else of it.

Format: "MAT-File Format" (MathWorks): a 128-byte header, then elements of (type, size) and data, padded to 8 bytes;
elements of 4 bytes or fewer are packed into their tag; type 15 holds another element, deflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.errors import BadRecording

MAX_BYTES = 64 * 2**20
_HEADER = 128
_MATRIX, _COMPRESSED, _COMPLEX = 14, 15, 0x800
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_REAL_CLASSES = range(6, 16)


def read_array(data: bytes, name: str) -> NDArray[Any]:
    """Return the real, full array called ``name``, in the shape that MATLAB shows.

    Raises:
        BadRecording: not such a file (code ``mat``), or no such array in it.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if len(data) < _HEADER or order is None or not data.startswith(b"MATLAB 5.0"):
        raise BadRecording("mat", "not a MATLAB 5 file: expected one saved by `save -v6` or `-v7`")
    try:
        found = []
        for kind, body in _elements(data[_HEADER:], order):
            if kind == _COMPRESSED:
                kind, body = next(_elements(_inflate(body), order))
            if kind == _MATRIX:
                label, array = _matrix(body, order)
                if label == name and array is not None:
                    return array
                found.append(label)
    except (struct.error, ValueError, StopIteration, zlib.error, IndexError) as error:
        raise BadRecording("mat", f"damaged or cut off ({str(error)[:80]})") from error
    raise BadRecording("mat", f"expected a real array {name}, found {ascii(found)[:80]}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        else:
            start, step = at + 8, 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data) or (step == 8 and size > 4):
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        yield kind, data[start : start + size]
        at += step


def _inflate(body: bytes) -> bytes:
    unpack = zlib.decompressobj()
    data = unpack.decompress(body, MAX_BYTES)
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError(f"cut off, or more than {MAX_BYTES:,} bytes")
    return data


def _matrix(body: bytes, order: str) -> tuple[str, NDArray[Any] | None]:
    """Return name and array; None where it is complex or no array of numbers."""
    parts = list(_elements(body, order))
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    shape = np.frombuffer(parts[1][1], f"{order}i4")
    name = parts[2][1].decode("ascii", "replace")
    if flags & 0xFF not in _REAL_CLASSES or flags & _COMPLEX or len(parts) < 4 or parts[3][0] not in _NUMBERS:
        return name, None
    numbers = np.frombuffer(parts[3][1], np.dtype(_NUMBERS[parts[3][0]]).newbyteorder("<" if order == "<" else ">"))
    return name, numbers.reshape(tuple(int(length) for length in shape), order="F").astype(np.float64)
