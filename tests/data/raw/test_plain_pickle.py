"""The restricted unpickler: plain data of every protocol come back, attacks are one line and touch nothing."""

from __future__ import annotations

import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from smae.data.raw import plain_pickle
from smae.data.raw.plain_pickle import as_array, load_plain_pickle
from smae.data.raw.source import SOURCES
from smae.errors import DataError
from tests.data import imported


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.path}",)


def test_pickles_that_ask_for_anything_else_are_refused_by_name(tmp_path: Path) -> None:
    hit, bad = tmp_path / "hit", tmp_path / "bad.pkl"
    for protocol in range(6):
        bad.write_bytes(pickle.dumps({"annotations": [_Bomb(hit)]}, protocol=protocol))
        with pytest.raises(DataError, match=r"asks for '(posix|nt)\.system'.*nothing was executed"):
            load_plain_pickle(bad)
    assert not hit.exists()
    bad.write_bytes(pickle.dumps([np.array([{}, 1], dtype=object)]))
    with pytest.raises(DataError, match=r"arrays of Python objects|only numbers and texts"):
        load_plain_pickle(bad)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
        b"\x80\x04N\x94r" + struct.pack("<I", 2**32 - 1) + b"0.",
        b"\x80\x04" + b"]" * 3 + b"0" * 9 + b".",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x82\x01.",
        b"",
        b"\x80\x04" + b"(" * 2000,
    ],
)
def test_hostile_pickles_are_one_line_errors(stream: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(stream)
    with pytest.raises(DataError, match=r"bad\.pkl"):
        load_plain_pickle(tmp_path / "bad.pkl")


def test_plain_data_of_every_kind_are_read(tmp_path: Path) -> None:
    array = np.arange(12, dtype=">i2").reshape(3, 4, order="F")
    value = {
        "a": [1, 2.5, None, True, "é"],
        "b": (np.int64(7), np.float32(0.5)),
        "c": array,
        "d": np.array(["x", "yz"]),
    }
    for protocol in range(6):
        (tmp_path / "good.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
        got = load_plain_pickle(tmp_path / "good.pkl")
        assert (got["a"], got["b"]) == (value["a"], (7, 0.5))
        assert np.array_equal(as_array(got["c"]), array)
        assert as_array(got["d"]).tolist() == ["x", "yz"]


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def array(shape: bytes, data: bytes, *, code: str = "f8") -> bytes:
    """Return the opcodes of a NumPy array; ``shape`` and ``data`` are opcodes too."""
    empty = name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    dtype = (
        name("numpy", "dtype")
        + text(code)
        + b"\x89\x88\x87R(K\x03"
        + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return empty + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


EIGHT = b"C\x08aaaaaaaa"
ENCODE = name("_codecs", "encode")
ATTACKS = {
    "builtins.eval": (name("builtins", "eval") + text("1") + b"\x85R", "asks for 'builtins.eval'"),
    "getattr": (name("builtins", "getattr"), "asks for 'builtins.getattr'"),
    "numpy.load": (name("numpy", "load") + text("x") + b"\x85R", "asks for 'numpy.load'"),
    "ufunc": (name("numpy._core", "_ufunc_reconstruct"), "asks for 'numpy._core._ufunc_reconstruct'"),
    "dotted": (name("numpy", "dtype.__init__.__globals__"), "asks for 'numpy.dtype.__init__.__globals__'"),
    "copyreg": (name("copyreg", "_reconstructor"), "asks for 'copyreg._reconstructor'"),
    "state of a function": (
        name("numpy._core.multiarray", "scalar") + b"N}" + text("__defaults__") + b"Ns\x86b",
        "gives a state to a function",
    ),
    "state of a method": (ENCODE + b"}" + text("__func__") + b"Nsb", "gives a state to a method"),
    "state of a class": (name("numpy", "dtype") + b"}" + text("made") + b"Nsb", "gives a state to a type"),
    "object scalar": (
        name("numpy._core.multiarray", "scalar")
        + name("numpy", "dtype") + text("O8") + b"\x89\x88\x87R" + EIGHT + b"\x86R",
        "only numbers and texts",
    ),
    "object array": (array(b"K\x01\x85", EIGHT, code="O8"), "only numbers and texts"),
    "array of a list": (array(b"K\x01\x85", b"]"), "arrays of Python objects are not read"),
    "structured": (array(b"K\x01\x85", EIGHT, code="i4,i4"), "only numbers and texts"),
    "huge shape": (array(number(2**62) + number(2**62) + b"\x86", EIGHT), "cannot reshape"),
    "empty but huge": (array(number(2**62) + b"K\x00\x86", b"C\x00"), "not a pickle of plain data"),
    "array as its own type": (
        name("numpy", "ndarray") + b")R\x94(K\x01K\x01\x85h\x00\x89" + EIGHT + b"tb",
        "an array without plain bytes",
    ),
    "colliding keys": (
        b"}(" + b"".join(number((2**61 - 1) * n) + b"N" for n in range(1, 2**15)) + b"u",
        "neither texts nor ordinary numbers",
    ),
    "colliding tuples": (b"}" + number(1) + b"\x85Ns", "neither texts nor"),
    "set": (b"(K\x01\x91", "holds sets"),
    "sparse memo": (b"".join(b"r" + struct.pack("<I", 2**32 - n) for n in range(1, 99)), "not a pickle of plain data"),
    "copies of a text": (
        b"X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"\x940](" + (ENCODE + b"h\x00" + b"\x85R") * 50 + b"e",
        "more bytes of its texts than it has",
    ),
    "copies of an array's text": (
        b"X" + struct.pack("<I", 8 * 10**5) + b"x" * 8 * 10**5 + b"\x940]("
        + array(number(10**5) + b"\x85", b"h\x00") * 50 + b"e",
        "more bytes of its texts than it has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_quickly(attack: str, tmp_path: Path) -> None:
    stream, message = ATTACKS[attack]
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(b"\x80\x04" + stream + b".")
    functions = [plain_pickle._scalar, plain_pickle._frombuffer]
    before = [dict(vars(function)) | {"defaults": function.__defaults__} for function in functions]
    begun = time.process_time()
    with pytest.raises(DataError, match=message) as refused:
        load_plain_pickle(bad)
    assert time.process_time() - begun < 5
    assert str(refused.value).startswith(f"{bad}: ")
    assert [dict(vars(function)) | {"defaults": function.__defaults__} for function in functions] == before


def test_what_is_nested_deep_or_in_circles_is_refused_by_the_sources(tmp_path: Path) -> None:
    deep = b"]" * 100_000 + b"a" * 99_999
    bad = tmp_path / "bad.pkl"
    for content in (
        b"}(" + text("annotations") + b"]" + text("split") + b"}" + text("x_train") + b"](" + deep + b"esu",
        b"}(" + text("annotations") + deep + b"u",
        b"}\x94(" + text("annotations") + b"h\x00" + text("split") + b"h\x00u",
        b"}(" + text("annotations") + b"](h\x00e" + b"u",
        deep,
    ):
        bad.write_bytes(b"\x80\x04" + content + b".")
        with pytest.raises(DataError):
            SOURCES.get("pyskl")().discover(bad)
    np.save(tmp_path / "train_data.npy", np.ones((2, 3, 4, 25, 2), np.float32))
    for content in (b"(](" + deep + b"N" + b"e](K\x01K\x02et", b"(K\x01K\x02t", b"(](K\x01K\x02e" + deep + b"t"):
        (tmp_path / "train_label.pkl").write_bytes(b"\x80\x04" + content + b".")
        with pytest.raises(DataError, match="expected as many names and class numbers"):
            SOURCES.get("stgcn-npy")().discover(tmp_path)


@pytest.mark.parametrize("label", [-1, 2**70, True, 1.0, None, "1"])
def test_labels_that_are_no_class_numbers_are_refused_alone(label: object, tmp_path: Path) -> None:
    raw = imported.write_pickle(tmp_path / "a.pkl")
    content = pickle.loads(raw.read_bytes())
    content["annotations"][1]["label"] = label
    raw.write_bytes(pickle.dumps(content))
    found, name = SOURCES.get("pyskl")().discover(raw), content["annotations"][1]["frame_dir"]
    assert len(found.samples) == 5
    assert [str(bad) for bad in found.refused] == [
        f"a.pkl!annotations[1] ({name}): annotation: expected frame_dir, label and keypoint, found other types"
    ]
