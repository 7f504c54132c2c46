"""Reads pickles of numbers, text, lists, dicts and NumPy arrays without executing anything.

Names in a pickle are looked up in a short table of stand-ins and never imported, and only stand-ins
of arrays and types can be given a state. Sizes are checked against the file before memory is
allocated. The rest is the standard unpickler in Python: the one in C allocates what a file claims.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smae.errors import DataError

_TYPE_CODE = re.compile(r"[biufUS][0-9]{1,6}")
_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


def load_plain_pickle(path: Path) -> Any:
    """Return the content of a pickle; a ``DataError`` names what is not plain in it."""
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            return _Unpickler(_BoundedFile(file, size), size=size).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:
        # A hostile stream can make the unpickler raise nearly anything: in each case the file is
        # refused.
        raise DataError(f"{path}: not a pickle of plain data ({type(error).__name__}: {str(error)[:80]})") from error


def load_plain_npy(data: bytes) -> Any:
    """Return the one object of plain data of an ``.npy``, else a ``DataError`` as of a pickle."""
    file = io.BytesIO(data)
    try:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(file)](file)
        if shape or not dtype.hasobject:
            raise DataError(f"an array of {dtype} {list(shape)}, where one object is expected")
        unpickler = _Unpickler(_BoundedFile(file, len(data)), size=len(data), wrapped=True)
        unpickler.load()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"not an .npy of plain data ({type(error).__name__}: {str(error)[:80]})") from error
    if unpickler.wrapped:
        raise DataError("its pickle holds no array of one object")
    return unpickler.content


def as_array(value: Any) -> Any:
    """Return a loaded value, a stand-in of an array as the array."""
    return value.array if isinstance(value, _Array) else value


class _BoundedFile:
    """A file that refuses reads beyond its end before memory is allocated for them."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise DataError("cut off, or it claims more bytes than it has")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline()


class _DType:
    """Stand-in of ``numpy.dtype`` while a pickle is read."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = str(code), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def to_numpy(self) -> np.dtype[Any]:
        if not _TYPE_CODE.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise DataError(f"an array of type {ascii(self.code)[:40]}: only numbers and texts are read")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """Stand-in of ``numpy.ndarray`` while a pickle is read."""

    def __init__(self, *_: object) -> None:
        self.array: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _frombuffer(data, dtype, shape, "CF"[fortran])


def _frombuffer(data: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, bytearray)):
        raise DataError("an array without plain bytes: arrays of Python objects are not read")
    flat = np.frombuffer(data, dtype.to_numpy())
    return flat.reshape(tuple(int(length) for length in shape), order="F" if order == "F" else "C")


def _scalar(dtype: _DType, data: bytes | str) -> Any:
    if isinstance(data, str):
        data = data.encode("latin1")
    return _frombuffer(data, dtype, (1,), "C")[0].item()


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _DType}
for _module in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_module}.multiarray", "_reconstruct"] = _Array
    _STAND_INS[f"{_module}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_module}.numeric", "_frombuffer"] = _frombuffer


class _Unpickler(_PythonUnpickler):  # type: ignore[misc]
    """An unpickler that knows the stand-ins only.

    Args:
        file: the pickle.
        size: of the file, bytes.
        wrapped: the outermost array holds one object, which becomes ``content``.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: _BoundedFile, *, size: int, wrapped: bool = False) -> None:
        super().__init__(file, encoding="latin1")
        self._left_to_encode = size
        self.wrapped, self.content = wrapped, None

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _STAND_INS:
            raise DataError(
                f"it asks for {ascii(f'{module}.{name}')[:80]}: only plain types and NumPy arrays are read, "
                "and nothing was executed; save it again as dict, list, text, numbers and arrays"
            )
        return _STAND_INS[module, name]

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Return the bytes of a text: old pickles store NumPy's arrays as text.

        NumPy writes and encodes each text once, so the sum is limited by the file's size: a small
        file cannot fill the memory with copies.
        """
        if encoding != "latin1":
            raise DataError(f"a text in {ascii(encoding)[:20]}: expected latin1")
        self._left_to_encode -= len(text)
        if self._left_to_encode < 0:
            raise DataError("it makes more bytes of its texts than it has")
        return text.encode("latin1")

    def load_build(self) -> None:
        state, made = self.stack[-1], self.stack[-2]
        if type(made) not in (_DType, _Array):
            raise DataError(f"it gives a state to a {type(made).__name__}: only NumPy arrays and types have one")
        if type(made) is _Array and isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], str):
            self.stack[-1] = (*state[:4], self._encode(state[4]))
        if self.wrapped and type(made) is _Array and _is_one_object(state):
            self.wrapped, self.content = False, self.stack.pop()[4][0]
            return
        super().load_build()

    def load_bytearray8(self) -> None:
        # The one opcode for which the standard unpickler allocates a claimed size before it reads.
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(count)))

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def refuse(self) -> None:
        raise DataError("it holds sets, or refers to something outside: only plain types and NumPy arrays are read")

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    for _code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.INST, pickle.PERSID, pickle.BINPERSID):
        dispatch[_code[0]] = refuse
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = refuse


def _is_one_object(state: Any) -> bool:
    """Whether the state of an array is that of one object: shape (), type O, a list of it."""
    if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], _DType)):
        return False
    return state[1] == () and state[2].code in ("O", "O8") and isinstance(state[4], list) and len(state[4]) == 1


def _check_keys(keys: list[Any]) -> None:
    """Refuse keys other than text and numbers: colliding keys slow a dict to a halt."""
    if not all(isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**63) for key in keys):
        raise DataError("a dictionary whose keys are neither texts nor ordinary numbers")
