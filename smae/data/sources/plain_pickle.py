"""Reads pickles of plain data without executing anything: numbers, texts, lists, dicts and NumPy arrays, nothing else.

Whatever a pickle asks for by name is looked up in a short table of stand-ins of ours, never imported; sizes are checked
against the file before memory is taken. The standard library's unpickler in Python does the rest, since the one in C
takes memory for what a file merely declares.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smae.errors import DataError

_CODES = {"b", "i", "u", "f", "U", "S"}
_Pure: Any = vars(pickle)["_Unpickler"]


def load_plain(path: Path) -> Any:
    """Return what a pickle of plain data holds.

    Raises:
        DataError: it asks for anything but plain types and arrays (named), or is damaged.
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(_Bounded(file, path.stat().st_size)).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:
        # A hostile stream can make the machine stumble in many ways; none of them is more than a refused file.
        raise DataError(f"{path}: not a pickle of plain data ({type(error).__name__}: {str(error)[:80]})") from error


class _Bounded:
    """A file that refuses to be asked for more bytes than it has left."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise DataError("cut off, or it claims more bytes than it has")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline()


class _DType:
    """Stands in for ``numpy.dtype`` while a pickle is read."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = str(code), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def made(self) -> np.dtype[Any]:
        if self.code[:1] not in _CODES or len(self.code) > 8 or self.order not in "<>|=":
            raise DataError(f"an array of type {ascii(self.code)[:40]}: only numbers and texts are read")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """Stands in for ``numpy.ndarray`` while a pickle is read."""

    def __init__(self, *_: object) -> None:
        self.array: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype, shape, "CF"[fortran])


def _frombuffer(data: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, bytearray)):
        raise DataError("an array without plain bytes: arrays of Python objects are not read")
    flat = np.frombuffer(bytes(data), dtype.made())
    return flat.reshape(tuple(int(length) for length in shape), order="F" if order == "F" else "C")


def _scalar(dtype: _DType, data: bytes | str) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return _frombuffer(raw, dtype, (1,), "C")[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise DataError(f"a text in {ascii(encoding)[:20]}: expected latin1")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {("_codecs", "encode"): _encode}
for _module in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_module}.multiarray", "_reconstruct"] = _Array
    _STAND_INS[f"{_module}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_module}.numeric", "_frombuffer"] = _frombuffer
_STAND_INS["numpy", "ndarray"] = _Array
_STAND_INS["numpy", "dtype"] = _DType


class _Unpickler(_Pure):  # type: ignore[misc]
    """Looks names up in the table above."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Pure.dispatch)

    def __init__(self, file: _Bounded) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise DataError(
                f"it asks for {ascii(f'{module}.{name}')[:80]}: only plain types and NumPy arrays are read, and "
                "nothing was executed; save it again as dict, list, text, numbers and arrays"
            )
        return _STAND_INS[module, name]

    def load_bytearray8(self) -> None:
        # The one place where the standard unpickler takes memory for a declared size before reading.
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(count)))

    def no_extension(self) -> None:
        raise DataError("it asks for a registered extension: only plain types and NumPy arrays are read")

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.PERSID, pickle.BINPERSID):
        dispatch[_code[0]] = no_extension


def plain(value: Any) -> Any:
    """Return a read value, a stand-in as its array."""
    return value.array if isinstance(value, _Array) else value
