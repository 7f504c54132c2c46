"""A program that reads truncated and mutated recordings with both readers: they must end alike, and never crash."""

from __future__ import annotations

import random
from collections.abc import Callable

from smae.data.raw.fast_parser import read_skeleton
from smae.data.raw.recording import Recording
from smae.data.raw.skeleton_parser import read_plain
from smae.errors import BadRecording
from tests.reliability.forked_cli import answer
from tests.skeletons import walk, write_skeleton

FILES = (
    write_skeleton(walk(1, seed=1)),
    write_skeleton([[], *walk(1, bodies=2, seed=2, digits=3)], newline="\n"),
    write_skeleton([*walk(2, seed=3, digits=2), []], final_newline=False) + b"\r\n \t\r\n",
)
ODD = (
    b"", b"0", b"9", b"25", b"24", b".", b"-", b"+", b"e", b"nan", b"-1.#IND", b"inf", b"1e400", b"1e-400", b"1,5",
    b"1_0", b"0x1F", b"+1.5", b".5", b"5.", b"--1", b"1.2.3", b"00000000000000000000", b"18446744073709551616",
    b"9007199254740993", b"0." + b"3" * 400, b"1" * 4097, b" ", b"\t", b"\r", b"\n", b"\x00", b"\xff", b"\xef\xbb\xbf",
    "٣".encode(), b"3", b"1000000", b"-1", b"5000",
)  # fmt: skip


def trials(kind: str, numbers: list[int], seed: int) -> list[str]:
    """Return the problem of each trial: ``truncations`` or ``mutations`` with these numbers."""
    if kind == "truncations":
        cuts = [(text, size) for text in FILES for size in range(len(text))]
        return [_truncation(text, size) for text, size in (cuts[number] for number in numbers if number < len(cuts))]
    return [_mutation(number, random.Random(f"{seed} {number}")) for number in numbers]


def truncations() -> int:
    """Return how many truncations there are."""
    return sum(map(len, FILES))


def _truncation(text: bytes, size: int) -> str:
    found, problem = _read_both(text[:size])
    accepted, allowed = isinstance(found, bytes), size >= len(text.rstrip())
    if not problem and accepted != allowed:
        problem = "accepted, though cut off" if accepted else f"refused, though whole: {found!r}"
    return problem and f"{text[:30]!r}... cut to {size} of {len(text)} bytes: {problem}"


def _mutation(number: int, dice: random.Random) -> str:
    text = dice.choice(FILES)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        text = dice.choice(MUTATIONS)(text, dice)
    problem = _read_both(text)[1]
    return problem and f"mutation {number}: {problem}"


def _read_both(text: bytes) -> tuple[object, str]:
    """Return the plain reader's end and, where the fast one ends otherwise, the problem."""
    fast, plain = _read(read_skeleton, text), _read(read_plain, text)
    return plain, "" if fast == plain else f"fast: {_brief(fast)}; plain: {_brief(plain)}"


def _read(reader: Callable[[bytes], Recording], text: bytes) -> object:
    try:
        found = reader(text)
    except BadRecording as error:
        return error.code, error.line, error.column, error.message, error.excerpt
    arrays = [found.frame, found.body, found.xyz, found.state]
    facts = [found.frames, sorted(found.notes.items()), *((array.dtype.str, array.shape) for array in arrays)]
    return repr(facts).encode() + b"".join(array.tobytes() for array in arrays)


def _brief(end: object) -> str:
    return f"accepted ({hash(end):x})" if isinstance(end, bytes) else repr(end)


def _flip(text: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(text))
    return text[:at] + bytes([text[at] ^ 1 << dice.randrange(8)]) + text[at + 1 :]


def _byte(text: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(text))
    return text[:at] + bytes([dice.randrange(256)]) + text[at + 1 :]


def _insert(text: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(ODD) + text[at:]


def _delete(text: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(text))
    return text[:at] + text[at + dice.choice((1, 1, 2, 5, 40)) :]


def _token(text: bytes, dice: random.Random) -> bytes:
    tokens = text.split(b" ")
    tokens[dice.randrange(len(tokens))] = dice.choice(ODD)
    return b" ".join(tokens)


def _swap_tokens(text: bytes, dice: random.Random) -> bytes:
    return b" ".join(_swapped(text.split(b" "), dice))


def _swap_lines(text: bytes, dice: random.Random) -> bytes:
    return b"\n".join(_swapped(text.split(b"\n"), dice))


def _double_line(text: bytes, dice: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = dice.randrange(len(lines))
    return b"\n".join([*lines[: at + 1], *lines[at:]])


def _lose_line(text: bytes, dice: random.Random) -> bytes:
    lines = text.split(b"\n")
    del lines[dice.randrange(len(lines))]
    return b"\n".join(lines)


def _swapped(parts: list[bytes], dice: random.Random) -> list[bytes]:
    one, other = dice.randrange(len(parts)), dice.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]
    return parts


MUTATIONS = (_flip, _byte, _insert, _delete, _token, _swap_tokens, _swap_lines, _double_line, _lose_line)


if __name__ == "__main__":
    answer(trials)
