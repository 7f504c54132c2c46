"""A program that spells millions of numbers in every accepted way and reads them as one recording's coordinates."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np

from smae.data.raw.fast_parser import read_skeleton
from tests.reliability.forked_cli import answer

FRAMES = 400
A_FILE = FRAMES * 75
"""Numbers in one recording: the coordinates of 25 joints in each frame."""
ROW = " 1 1 1 1 0 0 0 0 2"
HEAD = "1\n7 0 1 1 1 1 0 0 0 2\n25\n"
LARGEST = 3e38


def trials(seeds: list[int], rare: bool) -> dict[str, Any]:
    """Read one file a seed; return how many numbers there were and those that differ from Python's ``float``.

    Args:
        seeds: of the files.
        rare: spell them in ways that the fast reader must leave to Python, instead of those it knows.
    """
    count, differ = 0, []
    for seed in seeds:
        tokens = _rare(random.Random(seed)) if rare else _usual(np.random.default_rng(seed), seed)
        expected = np.array(list(map(float, tokens))).astype(np.float32)
        found = read_skeleton(_file(tokens), max_range=LARGEST).xyz.reshape(-1)
        wrong = np.flatnonzero(found.view(np.uint32) != expected.view(np.uint32))
        differ += [f"{tokens[at]} is read as {found[at]!r}, not {expected[at]!r}" for at in wrong]
        count += len(tokens)
    return {"count": count, "differ": differ}


def _file(tokens: list[str]) -> bytes:
    rows = [f"{x} {y} {z}{ROW}" for x, y, z in zip(tokens[::3], tokens[1::3], tokens[2::3], strict=True)]
    frames = [HEAD + "\n".join(rows[at : at + 25]) + "\n" for at in range(0, len(rows), 25)]
    return (f"{len(frames)}\n" + "".join(frames)).encode()


def _usual(rng: np.random.Generator, seed: int) -> list[str]:
    """Return whole numbers, decimal ones, ones with a sign and ones with an exponent, of 1 to 15 digits, in turn."""
    digits = rng.integers(1, 16, A_FILE)
    mantissas = rng.integers(0, 10**15, A_FILE) % 10**digits
    points = (rng.random(A_FILE) * digits).astype(int)
    signs = np.array(["", "-", "+"])[rng.integers(0, 3 if seed % 4 == 0 else 2, A_FILE)]
    columns = (signs.tolist(), mantissas.tolist(), digits.tolist(), points.tolist())
    texts = [f"{sign}{mantissa:0{size}d}" for sign, mantissa, size, _ in zip(*columns, strict=True)]
    if seed % 4 == 1:
        return texts
    texts = [f"{t[:-p]}.{t[-p:]}" if p else t for t, p in zip(texts, columns[3], strict=True)]
    if seed % 4 != 3:
        return texts
    # The power of ten of all digits together stays within 22, where a double is exact.
    shifts = np.clip(rng.integers(-22, 23, A_FILE), points - 22, 22).tolist()
    forms = ("e{}", "E{}", "e{:+03}", "E{:+}")
    return [text + forms[at % 4].format(shift) for at, (text, shift) in enumerate(zip(texts, shifts, strict=True))]


def _rare(dice: random.Random) -> list[str]:
    """Return numbers that need more than a double's arithmetic: a short file, since the plain reader reads it."""
    makers = (_long, _far, _bare, _halfway, _halfway_single, _tiny, _zero)
    return [dice.choice(makers)(dice) for _ in range(A_FILE // 10)]


def _long(dice: random.Random) -> str:
    size = dice.choice((16, 17, 18, 19, 19, 20, 40, 400))
    digits = "".join(dice.choices("0123456789", k=size))
    return f"{dice.choice(('', '-', '+'))}{dice.choice(('', '0', '7', '000000000000000000019'))}.{digits}"


def _bare(dice: random.Random) -> str:
    """Leave out the digits on one side of the point."""
    digits, tail = dice.randrange(10**9), dice.choice(("", "e-7", "E3"))
    return f"{dice.choice(('', '-', '+'))}{dice.choice((f'.{digits}', f'{digits}.'))}{tail}"


def _far(dice: random.Random) -> str:
    return f"{dice.uniform(-9, 9)!r}e{dice.randrange(-330, 38)}"


def _halfway(dice: random.Random) -> str:
    """Spell out the number just between two doubles, or a last digit beside it."""
    value = dice.uniform(0, 20) * 10.0 ** dice.randrange(-12, 1)
    return _beside(Decimal(value) + Decimal(np.spacing(value).item()) / 2, dice)


def _halfway_single(dice: random.Random) -> str:
    """Spell out the number just between two float32: rounded twice, as promised, and not once."""
    value = np.float32(dice.uniform(0, 20))
    return _beside(Decimal(value.item()) + Decimal(np.spacing(value).item()) / 2, dice)


def _beside(exact: Decimal, dice: random.Random) -> str:
    return f"{exact:f}" + dice.choice(("", "0", "1", "0" * 30 + "1"))


def _tiny(dice: random.Random) -> str:
    return dice.choice(("1e-310", "4.9e-324", "2.5e-324", "2.4e-324", "1e-45", "7e-46", "1.17549435e-38", "1e-400"))


def _zero(dice: random.Random) -> str:
    return dice.choice(("0", "-0", "+0", "0.", ".0", "-.0", "0e5", "-0E-5", "0" * 300 + ".5", "0e999"))


if __name__ == "__main__":
    answer(trials)
