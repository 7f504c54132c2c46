"""The fast reader equals the plain one: in arrays where it accepts, in code and place where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smae.data.raw import bits
from smae.data.raw import fast_parser as skeleton_fast
from smae.data.raw.fast_parser import read_skeleton, read_sure
from smae.data.raw.parser_kernels import PAD, fill, outline, scan
from smae.data.raw.recording import Recording
from smae.data.raw.skeleton_parser import read_plain
from smae.errors import BadRecording
from tests.skeletons import walk, write_skeleton

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "uiprmd" / "to_skeleton.py"
SMALL = write_skeleton(walk(2, bodies=2, seed=5))
FRAGMENTS = (
    b"0", b"9", b"25", b" ", b"  ", b"\t", b".", b"-", b"+", b"e", b"E-05", b"e+99", b"e100", b"\r", b"\n", b"\r\n",
    b"nan", b"inf", b",", b"_", b"0x", b"\x00", b"\xff", b"\xef\xbb\xbf", b"2\r\n", b"1.5", b"18446744073709551616",
    b"00000000000000000000", b"0.00000000000000000000001", b"123456789012345678901234567890",
)  # fmt: skip


def equal(a: Recording, b: Recording) -> bool:
    """Tell whether two recordings hold the same bits."""
    arrays = ("frame", "body", "xyz", "state")
    same = all(getattr(a, n).tobytes() == getattr(b, n).tobytes() for n in arrays)
    kinds = all(
        (getattr(a, n).dtype, getattr(a, n).shape) == (getattr(b, n).dtype, getattr(b, n).shape) for n in arrays
    )
    return same and kinds and (a.frames, a.notes) == (b.frames, b.notes)


def outcome(text: bytes) -> Recording | tuple[str, int, int]:
    try:
        return read_plain(text)
    except BadRecording as error:
        return error.code, error.line, error.column


def check(text: bytes) -> bool:
    """Assert that the fast reader accepts only what the plain one does, equally; return whether it accepted."""
    sure, expected = read_sure(text), outcome(text)
    if sure is not None:
        assert isinstance(expected, Recording), f"only the fast reader takes it: {expected}"
        assert equal(sure, expected)
    return sure is not None


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Every 100th of the real recordings."""
    if not REAL.exists():
        pytest.skip("the shared folder with real recordings is not beside the repository")
    folder = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(REAL), str(folder), "--every", "100"], check=True, capture_output=True)
    return [path.read_bytes() for path in sorted(folder.glob("*.skeleton"))]


def test_real_files_are_read_fast_and_equal(real: list[bytes]) -> None:
    assert len(real) == 20
    assert all(check(text) for text in real)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("final_newline", [True, False])
@pytest.mark.parametrize("digits", [1, 4, 7, 9, 17])
def test_usual_spellings_are_read_fast(newline: str, final_newline: bool, digits: int) -> None:
    for bodies in range(4):
        frames = walk(3, bodies=bodies, seed=digits, digits=min(digits, 14))
        frames.insert(1, [])
        assert check(write_skeleton(frames, newline=newline, final_newline=final_newline))
        check(write_skeleton(walk(2, bodies=1, digits=digits), newline=newline))


def test_many_bodies_are_noted_alike() -> None:
    text = write_skeleton(walk(3, bodies=7))
    sure = read_sure(text)
    assert sure is not None
    assert sure.notes == {"many-bodies": 3}
    assert check(text)


@pytest.mark.parametrize("newline", ["\r", "\n\r\n"])
def test_rare_spellings_are_left_to_the_plain_reader(newline: str) -> None:
    assert not check(write_skeleton(walk(2), newline=newline))
    assert not check(write_skeleton(walk(2), separator="\t"))
    assert not check(write_skeleton(walk(2), bom=True))


def test_results_own_their_memory_and_take_views() -> None:
    first, second = write_skeleton(walk(3, seed=1)), write_skeleton(walk(3, seed=2))
    kept = read_skeleton(memoryview(first))
    before = kept.xyz.copy()
    read_skeleton(second)
    assert np.array_equal(kept.xyz, before)
    assert all(a.base is None for a in (kept.frame, kept.body, kept.xyz, kept.state))


def test_buffers_grow_for_large_files() -> None:
    text = write_skeleton(walk(900, seed=3))
    assert len(text) > 1 << 20
    skeleton_fast._workspace = skeleton_fast._Workspace()
    assert check(text)


def mutate(text: bytes, edits: list[tuple[float, int, int]]) -> bytes:
    for where, kind, pick in edits:
        at = int(where * len(text))
        fragment = FRAGMENTS[pick % len(FRAGMENTS)]
        cut = (0, 1, len(fragment), pick % 40)[kind]
        text = text[:at] + (fragment if kind < 3 else b"") + text[at + cut :]
    return text


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.integers(0, 10_000)), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EDITS)
def test_mutations_end_alike(edits: list[tuple[float, int, int]]) -> None:
    check(mutate(SMALL, edits))


def test_fields_with_every_fragment_ends_alike() -> None:
    """Fragments at both ends of, and instead of, each field of a joint row and of a body row."""
    for row in ("head", "joint"):
        for column in (0, 1, 9) if row == "head" else (0, 1, 2, 3, 10, 11):
            for fragment in FRAGMENTS:
                for form in ("{}{}", "{1}{0}", "{1}"):
                    frames = walk(1)
                    fields = frames[0][0].head if row == "head" else frames[0][0].rows[0]
                    text = fragment.decode("latin1")
                    fields[column] = form.format(fields[column], text) if form != "{1}{0}" else text + fields[column]
                    check(write_skeleton(frames))


FORMATS = (".7g", ".4f", ".9g", ".17g", ".6e", ".0f", ".12f", "+.8f", ".3E", ".15f", ".30f")


def check_numbers(files: int, seed: int) -> int:
    """Assert that 75 random numbers a file equal float32(float(token)); return how many files the kernels took."""
    rng = np.random.default_rng(seed)
    sure = 0
    for number in range(files):
        values = np.clip(rng.normal(0, 1, 75) * 10.0 ** rng.integers(-9, 2, 75), -19, 19)
        tokens = [f"{value:{FORMATS[number % len(FORMATS)]}}" for value in values]
        frames = walk(1)
        for place, token in enumerate(tokens):
            frames[0][0].rows[place // 3][place % 3] = token
        text = write_skeleton(frames)
        sure += read_sure(text) is not None
        expected = np.array([float(token) for token in tokens]).astype(np.float32)
        assert read_skeleton(text).xyz.tobytes() == expected.tobytes()
    return sure


def test_numbers_equal_python() -> None:
    assert check_numbers(110, 0) >= 70


@pytest.mark.parametrize(
    "form", ["{:.13e}", "{:.14e}", "{:+.14e}", "{:.15f}", "{:022.14f}", "{:.4f}e+00", "{:.14f}E-1"]
)
def test_rows_of_long_numbers_equal_python(form: str) -> None:
    """Three numbers of over 20 characters: the end of the third lies beyond what is looked at together."""
    values = np.random.default_rng(5).uniform(-9, 9, 75)
    tokens = [form.format(value) for value in values]
    frames = walk(1)
    for place, token in enumerate(tokens):
        frames[0][0].rows[place // 3][place % 3] = token
    expected = np.array([float(token) for token in tokens]).astype(np.float32)
    assert read_skeleton(write_skeleton(frames)).xyz.tobytes() == expected.tobytes()


def bulk_numbers(count: int, seed: int) -> None:
    """The same for many numbers in spellings that the kernel is always sure of: one file holds them all."""
    rng = np.random.default_rng(seed)
    per_file = 75 * 400
    tail = " 1 1 1 1 0 0 0 0 2"
    for _ in range(0, count, per_file):
        whole, places = rng.integers(0, 20, per_file), rng.integers(1, 9, per_file)
        part = rng.integers(0, 10**8, per_file) % 10**places
        sign = np.where(rng.random(per_file) < 0.5, "-", "")
        dots = (f"{s}{w}.{f:0{p}d}" for s, w, f, p in zip(sign, whole, part, places, strict=True))
        exps = (f"{s}{f}e-{p:02d}" for s, f, p in zip(sign, part, places + 8, strict=True))
        tokens = [a if pick else b for a, b, pick in zip(dots, exps, rng.random(per_file) < 0.8, strict=True)]
        lines = [" ".join(tokens[i : i + 3]) + tail for i in range(0, per_file, 3)]
        head = "1\n7 0 1 1 1 1 0 0 0 2\n25\n"
        text = "400\n" + "".join(head + "\n".join(lines[i : i + 25]) + "\n" for i in range(0, len(lines), 25))
        found = read_sure(text.encode())
        assert found is not None
        assert found.xyz.tobytes() == np.array(list(map(float, tokens))).astype(np.float32).tobytes()


def test_two_hundred_thousand_numbers_equal_python() -> None:
    bulk_numbers(200_000, 1)


def test_kernels_equal_their_plain_twins() -> None:
    for text in (SMALL, SMALL.rstrip(), SMALL.replace(b"2\r\n", b"2.\r\n", 1), write_skeleton(walk(1), count="2")):
        buffer = np.frombuffer(text + PAD[text.endswith(b"\n") :].tobytes(), np.uint8).copy()
        results = []
        with np.errstate(over="ignore"):
            for one in (lambda kernel: kernel, lambda kernel: getattr(kernel, "py_func", kernel)):
                ends, spaces = np.zeros(len(text), np.int32), np.zeros(len(text), np.int32)
                lines = one(scan)(buffer, len(text), ends, spaces)
                frames, rows, crowded = one(outline)(buffer, ends, lines) if lines > 0 else (-1, 0, 0)
                rows = rows if frames > 0 else 0
                frame, body = np.zeros(rows, np.int32), np.zeros(rows, np.uint64)
                xyz, state = np.zeros((rows, 25, 3), np.float32), np.zeros((rows, 25), np.uint8)
                done = frames > 0 and one(fill)(buffer, ends, spaces, 20.0, frames, frame, body, xyz, state)
                found = [a.tobytes() for a in (ends, spaces, frame, body, xyz, state)] if lines > 0 else []
                results.append((int(lines), int(frames), int(crowded), bool(done), found))
        assert results[0] == results[1]


def test_bit_functions_equal_their_definitions() -> None:
    from smae.jit import njit

    @njit()
    def compiled(text, at, low, high):  # type: ignore[no-untyped-def]
        found = bits.mask(text, at, low, high)
        return found, bits.word(text, at), bits.trailing_zeros(found), bits.popcount(found)

    rng = np.random.default_rng(0)
    text = rng.integers(0, 256, 200).astype(np.uint8)
    for _ in range(50):
        at, low = np.uint64(rng.integers(0, 130)), np.uint8(rng.integers(0, 255))
        high = np.uint8(rng.integers(low, 256))
        assert compiled(text, at, low, high) == getattr(compiled, "py_func", compiled)(text, at, low, high)
    assert bits.trailing_zeros(np.uint64(0)) == 64


CORPUS = """
import numpy as np
from smae.data.prepare.fast_path import FastPath
from smae.data.raw.fast_parser import read_skeleton, read_sure
from smae.errors import BadRecording
from tests.skeletons import walk, write_skeleton
text = write_skeleton(walk(1, bodies=2))
assert read_sure(text) is not None and read_sure(text.rstrip()) is not None
for size in range(0, len(text) - 2, 1 + len(text) // 10):
    try:
        read_skeleton(text[:size])
    except BadRecording:
        continue
    raise AssertionError(size)
assert read_sure(text.replace(b" 2\\r\\n", b" 3\\r\\n", 1)) is None
one = write_skeleton(walk(1))
joints, state = np.empty((40, 25, 3), np.float32), np.empty((40, 25), np.uint8)
for size in (len(one), 0, 1, 2, 100, len(one) // 2):
    rows, _ = FastPath(max_range=20.0, centre=1)(one[:size], joints, state)
    assert (rows > 0) == (size == len(one)), (rows, size)
print(read_sure(text).xyz.tobytes().hex())
"""


@pytest.mark.parametrize(
    "setting", [pytest.param("NUMBA_BOUNDSCHECK", marks=pytest.mark.slow, id="bounds"), "NUMBA_DISABLE_JIT"]
)
def test_no_index_leaves_its_array_and_no_compiler_is_needed(tmp_path: Path, setting: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), setting: "1"}
    command = [sys.executable, "-W", "ignore:overflow", "-c", CORPUS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == read_skeleton(write_skeleton(walk(1, bodies=2))).xyz.tobytes().hex()
    if setting == "NUMBA_BOUNDSCHECK":
        assert [path.name.endswith("-bounds") for path in (tmp_path / "smae").iterdir()] == [True]
